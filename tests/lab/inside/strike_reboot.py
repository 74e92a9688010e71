"""Run in the lab: a save, a restore or an upgrade by mode reboot in which something is killed at one moment.

One JSON object on standard input (``Order``), one on standard output (``Seen``).  As ``strike`` does it for swaps.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import libvirt

if TYPE_CHECKING:
    from tests.lab.inside import strike as swaps
else:
    import strike as swaps


HALT = Path(__file__).with_name("halt_reboot.py")
SAVED, RUN, RAM = Path("/var/lib/virtcpr/saved"), Path("/run/virtcpr"), Path("/var/lib/libvirt/qemu/ram")
ARGUMENT = "'-incoming'"
TICK_SECONDS = 0.03


@dataclass(frozen=True)
class Order:
    """``command``: save, restore or upgrade.  ``victims``: of virtcpr, old, new, libvirtd, in this order.

    ``then``: guardian, recover or restore goes on where virtcpr is killed.
    """

    domain: str
    command: str
    emulators: tuple[str, ...]
    moment: str
    victims: tuple[str, ...]
    then: str


@dataclass
class Seen:
    """``stage`` in the record when virtcpr stood still; ``most``: so many QEMUs of the domain lived at once;
    ``settled``: the domain and what is left of virtcpr's once all is settled; ``now``: the same after what waited in a
    file was restored, if it did; ``words`` of virtcpr and whoever came after it."""

    before: dict[str, Any] = field(default_factory=dict)
    stage: str | None = None
    qemus: int = 0
    code: int = 0
    most: int = 0
    waited: bool = False
    settled: dict[str, Any] = field(default_factory=dict)
    now: dict[str, Any] = field(default_factory=dict)
    words: str = ""


class Crowd(threading.Thread):
    """How many QEMUs of the domain there are at a time: never two, as new is started where old is gone."""

    def __init__(self, domain: str) -> None:
        super().__init__(daemon=True)
        self.domain, self.most = domain, 0
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(TICK_SECONDS):
            self.most = max(self.most, len(swaps.qemus(self.domain)))

    def end(self) -> int:
        self._over.set()
        self.join()
        return self.most


def strike(order: Order) -> Seen:
    seen, crowd = Seen(), Crowd(order.domain)
    crowd.start()
    seen.before = look_well(order.domain)
    if order.command == "restore":
        say(seen, "save", order.domain, "--yes")
    with start(order, seen.before["emulator"]) as virtcpr, swaps.ended(virtcpr):
        signal.alarm(int(swaps.SECONDS))  # its default action ends this process: nothing is settled then
        os.waitid(os.P_PID, virtcpr.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        signal.alarm(0)
        seen.stage, seen.qemus = next(iter(stages().values()), None), len(swaps.qemus(order.domain))
        kill(order, virtcpr)
        if "virtcpr" not in order.victims:
            os.kill(virtcpr.pid, signal.SIGCONT)
        out, err = virtcpr.communicate(timeout=swaps.SECONDS)
        seen.words += out + err
        seen.code = virtcpr.returncode
    settle(order, seen)
    seen.now = seen.settled = look_well(order.domain)
    if stages():
        seen.waited = True
        say(seen, "restore", order.domain)
        seen.now = look_well(order.domain)
    seen.most = crowd.end()
    return seen


def start(order: Order, emulator: str) -> subprocess.Popen[str]:
    """virtcpr, which stands still at the moment."""
    arguments = [order.command, order.domain, "--yes", "-o", "json"]
    if order.command == "upgrade":
        other = next(one for one in order.emulators if one != emulator)
        arguments += ["--mode", "reboot", "--no-rehearse", "--emulator", other]
    return subprocess.Popen(
        [sys.executable, str(HALT), order.moment, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill(order: Order, virtcpr: subprocess.Popen[str]) -> None:
    if order.then in ("recover", "restore"):
        swaps.run("systemctl", "kill", "--signal=KILL", "virtcpr-guardian-*")
        swaps.await_end_of_guardian()
    for victim in order.victims:
        others = {"virtcpr": [virtcpr.pid], "libvirtd": swaps.daemons()}
        for pid in others[victim] if victim in others else swaps.qemus(order.domain):
            with contextlib.suppress(ProcessLookupError):
                end(pid)


def end(pid: int) -> None:
    """While a QEMU dies virtcpr may still tell it to run the guest, and can't know then whether it did."""
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [], swaps.SECONDS)
    finally:
        os.close(process)


def settle(order: Order, seen: Seen) -> None:
    """Whoever it is goes on; where virtcpr itself went on and could not bring it to an end, `recover` does."""
    if order.then == "guardian":
        swaps.await_end_of_guardian()
    elif order.then == "restore":
        say(seen, "restore", order.domain)
    elif order.then == "recover" or unsettled():
        say(seen, "recover", "--all")
    deadline = time.monotonic() + swaps.SECONDS
    while unsettled() and time.monotonic() < deadline:  # the daemon is just coming back, and nobody needs to be asked
        time.sleep(swaps.POLL_SECONDS)


def unsettled() -> bool:
    return any(stage != "saved for save" for stage in stages().values()) or bool(listing(RUN / "leftovers"))


def stages() -> dict[str, str]:
    """Every record's stage, by UUID, and what the state is for."""
    found = {}
    for path in SAVED.glob("*/record.json"):
        with contextlib.suppress(OSError):
            record = json.loads(path.read_text())
            found[record["uuid"]] = f"{record['stage']} for {record['purpose']}"
    return found


def look_well(name: str) -> dict[str, Any]:
    """The domain once libvirt's daemon answers, and what virtcpr must not leave."""
    deadline = time.monotonic() + swaps.SECONDS
    while True:
        try:
            now = swaps.look(name)
            break
        except libvirt.libvirtError:
            if time.monotonic() > deadline:
                raise
            time.sleep(swaps.POLL_SECONDS)
    with swaps.connected() as connection:
        domain = connection.lookupByName(name)
        now["persistent"] = hashlib.sha256(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE).encode()).hexdigest()
        now["argument"] = now["active"] and ARGUMENT in domain.XMLDesc()
        own = f"{domain.ID()}-{name}"
    status = Path(f"/run/libvirt/qemu/{name}.xml")
    now["argument_in_status"] = status.exists() and ARGUMENT in status.read_text()
    kept = sorted(str(path) for path in RAM.glob("virtcpr-*"))
    others = sorted(path.name for path in RAM.iterdir() if path.name.endswith(f"-{name}") and path.name != own)
    directories = (SAVED, RUN / "starting", RUN / "leftovers")
    return now | {"kept": kept, "others": others, **{one.name: listing(one) for one in directories}}


def listing(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []


def say(seen: Seen, *arguments: str) -> None:
    done = subprocess.run(["virtcpr", *arguments], capture_output=True, text=True, check=False, timeout=swaps.SECONDS)
    seen.words += f"\n{' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}"


if __name__ == "__main__":
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    asked = json.load(sys.stdin)
    print(json.dumps(asdict(strike(Order(**asked)))))
