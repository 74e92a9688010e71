"""Run in the lab: an upgrade in which something is killed at one moment, and what became of the guest.

One JSON object on standard input (``Order``), one on standard output (``Seen``).  virtcpr is a child of this process,
so that the kernel says when it stands still: no moment is missed, and none is guessed.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

import libvirt
import libvirt_qemu

from virtcpr.host.libvirt.daemon import DRIVER_PID
from virtcpr.host.processes.proc import lock_owner

JOURNALS = Path("/run/virtcpr/journal")
KEPT = Path("/run/virtcpr/kept")
HALT = Path(__file__).with_name("halt.py")
UNITS = ("libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket", "libvirtd.service")
SLOWNESS = float(os.environ.get("SLOWNESS", "1"))  # how much longer than in the lab everything takes
SECONDS = 90.0 * SLOWNESS
HOLD_SECONDS = 0.15 * SLOWNESS  # virtcpr stands still so long: two owners would both run in it
TICK_SECONDS = 0.01 * SLOWNESS
POLL_SECONDS = 0.03
TAKEN_OVER_NS = 20_000_000  # a vCPU that has used so much more than at its start runs the guest
WITHOUT_SYSTEMD = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs /run/systemd && exec "$@"', "sh")


@dataclass(frozen=True)
class Order:
    """``moment``: of ``tests.lab.support.chaos_moments``; "" for a random one, of this ``seed``.

    ``emulators``: two builds, between which it goes to and fro.
    ``victims``: of virtcpr, old, new, libvirtd, in the order of their deaths; ``start``: libvirt's daemon is started;
    ``both``: old QEMU is told to run, too, which nobody but a test ever does.
    ``then``: guardian, hook or recover settles it where virtcpr is killed; leave: virtcpr stands still for ever.
    ``how``: more arguments of the upgrade.
    ``systemd``: False hides systemd from virtcpr.  ``deaf``: nobody reads what virtcpr and its guardian say.
    """

    domain: str
    emulators: tuple[str, ...]
    moment: str
    victims: tuple[str, ...]
    then: str
    systemd: bool = True
    deaf: bool = False
    seed: int = 0
    how: tuple[str, ...] = ()


@dataclass
class Seen:
    """``before``, ``now``: the domain; ``journal`` at the moment; ``report``, ``words``, ``code`` of virtcpr;
    ``started``: whether the daemon that was started got the guests; ``answer_s``: from virtcpr's death until the daemon
    answered and nothing was left to settle; ``both_ms``: CPU time that old's vCPUs took while new's ran the guest."""

    before: dict[str, Any] = field(default_factory=dict)
    journal: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    words: str = ""
    code: int = 0
    started: bool | None = None
    answer_s: float | None = None
    both_ms: float = 0.0
    new_ms: float = 0.0
    now: dict[str, Any] = field(default_factory=dict)


class Sampler(threading.Thread):
    """What the vCPUs of every QEMU use, sampled: RAM is shared, so the guest's own counters can't tell two owners."""

    def __init__(self, domain: str) -> None:
        super().__init__(daemon=True)
        self.domain = domain
        self.used: dict[int, list[tuple[float, int]]] = {}
        self._vcpus: dict[int, list[Path]] = {}
        self._over = threading.Event()

    def run(self) -> None:
        ticks = 0
        while not self._over.wait(TICK_SECONDS):
            if ticks % 5 == 0:
                self._find()
            ticks += 1
            for pid, paths in self._vcpus.items():
                with contextlib.suppress(OSError):
                    used = sum(int(path.read_text().split()[0]) for path in paths)
                    if not Path(f"/proc/{pid}/cmdline").read_bytes():
                        continue  # it is killed: its last thread, which may be a vCPU's, takes its memory down
                    self.used.setdefault(pid, []).append((time.monotonic(), used))

    def _find(self) -> None:
        self._vcpus = {}
        for pid in qemus(self.domain):
            with contextlib.suppress(OSError):
                tasks = Path(f"/proc/{pid}/task").iterdir()
                vcpus = [task / "schedstat" for task in tasks if (task / "comm").read_text().startswith("CPU ")]
                if vcpus:
                    self._vcpus[pid] = vcpus

    def both(self, old: int, new: int) -> tuple[float, float]:
        """Milliseconds that old's vCPUs ran after new's had begun to run the guest and while new lived; new's own."""
        self._over.set()
        self.join()
        mine, others = self.used.get(new, []), self.used.get(old, [])
        if not mine:
            return 0.0, 0.0
        since = next((at for at, used in mine if used > mine[0][1] + TAKEN_OVER_NS), None)
        meanwhile = [used for at, used in others if since is not None and since <= at <= mine[-1][0]]
        grown = meanwhile[-1] - meanwhile[0] if meanwhile else 0
        return grown / 1e6, (mine[-1][1] - mine[0][1]) / 1e6


def qemus(domain: str) -> list[int]:
    """The QEMU processes of a guest that are alive; libvirt and virtcpr start others, to ask what they can."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            argv = path.read_text().split("\0")  # empty in a zombie
            if "qemu-system" in argv[0] and any(word.startswith(f"guest={domain},") for word in argv):
                found.append(int(path.parent.name))
    return found


def strike(order: Order) -> Seen:
    seen, sampler = Seen(), Sampler(order.domain)
    sampler.start()
    seen.before = look(order.domain)
    with upgrade(order, seen.before["emulator"]) as virtcpr, ended(virtcpr):
        await_moment(order, virtcpr, seen)
        if order.then == "leave":
            virtcpr.returncode = 0
            return seen
        died = kill(order, virtcpr, seen)
        if "virtcpr" not in order.victims:
            os.kill(virtcpr.pid, signal.SIGCONT)
        finish(order, virtcpr, seen)
    if "virtcpr" in order.victims:
        settle(order, seen)
    answered = await_settled(order)
    seen.answer_s = round(answered - died, 3)
    seen.now = look(order.domain)
    old, new = seen.before["pid"], seen.journal.get("new_pid")
    if seen.now.get("pid") not in (None, old):
        new = seen.now["pid"]
    seen.both_ms, seen.new_ms = sampler.both(old, new or 0)
    return seen


def upgrade(order: Order, emulator: str) -> subprocess.Popen[str]:
    """An upgrade to the other build that stands still at the moment, or, of a random one, one as it is."""
    other = next(one for one in order.emulators if one != emulator)
    program = [sys.executable, str(HALT), order.moment] if order.moment else ["virtcpr"]
    arguments = ["upgrade", order.domain, "--emulator", other, "--yes", "-o", "json", *order.how]
    hidden = () if order.systemd else WITHOUT_SYSTEMD
    return subprocess.Popen(
        [*hidden, *program, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@contextlib.contextmanager
def ended(virtcpr: subprocess.Popen[str]) -> Iterator[None]:
    """Whatever fails here, nothing that stands still is left behind."""
    try:
        yield
    except BaseException:
        virtcpr.kill()
        raise


def await_moment(order: Order, virtcpr: subprocess.Popen[str], seen: Seen) -> None:
    if order.moment:
        signal.alarm(int(SECONDS))  # its default action ends this process: nothing is settled then
        os.waitid(os.P_PID, virtcpr.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        signal.alarm(0)
        time.sleep(HOLD_SECONDS)
    else:
        await_random_moment(order, virtcpr)
    look_at_journal(seen)


def look_at_journal(seen: Seen) -> None:
    for path in JOURNALS.glob("*.json"):
        with contextlib.suppress(OSError, ValueError):
            entry = json.loads(path.read_text())
            seen.journal = {name: entry[name] for name in ("state", "old_pid", "new_pid", "spare_pid")}


def await_random_moment(order: Order, virtcpr: subprocess.Popen[str]) -> None:
    """Any time of the swap; as often while new is made, and in the moment in which the guest is handed over."""
    if not order.victims:
        return
    chance = random.Random(order.seed)
    state, most = chance.choice((("planned", 1.5), ("migrating", 0.5), ("incoming", 0.1)))
    delay = chance.uniform(0, most)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and virtcpr.poll() is None:
        if any(f'"state": "{state}"' in read(path) for path in JOURNALS.glob("*.json")):
            break
        time.sleep(0.001)
    time.sleep(delay)


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def kill(order: Order, virtcpr: subprocess.Popen[str], seen: Seen) -> float:
    """Kill the victims; when that was."""
    if order.then in ("hook", "recover"):
        run("systemctl", "kill", "--signal=KILL", "virtcpr-guardian-*")
        await_end_of_guardian()
    if order.deaf:
        for stream in (virtcpr.stdout, virtcpr.stderr):
            assert stream is not None
            stream.close()
    died = time.monotonic()
    for victim in order.victims:
        if victim == "start":
            seen.started = start_daemon()
        elif victim == "libvirtd":
            for daemon in daemons():
                os.kill(daemon, signal.SIGKILL)
        elif victim == "both":
            run_both(order.domain, seen.journal["old_pid"])
        elif victim == "virtcpr":
            with contextlib.suppress(ProcessLookupError):
                os.kill(virtcpr.pid, signal.SIGKILL)
        else:
            with contextlib.suppress(ProcessLookupError):  # one that waits for virtcpr's word ends with virtcpr
                os.kill(seen.journal[f"{victim}_pid"], signal.SIGKILL)
    return died


def daemons() -> list[int]:
    found = subprocess.run(["pidof", "libvirtd"], capture_output=True, text=True, check=False).stdout
    return [int(pid) for pid in found.split()]


def start_daemon() -> bool:
    """Start libvirt's daemon; whether its QEMU driver came up.  systemd calls it started before it has tried."""
    run("systemctl", "start", "libvirtd.service")
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if not daemons():
            return False
        if lock_owner(DRIVER_PID) in daemons():
            return True
        time.sleep(POLL_SECONDS)
    raise TimeoutError("libvirt's daemon neither ends nor has its QEMU driver")


def run_both(domain: str, old: int) -> None:
    """Let old QEMU run beside new for as long as it takes to be seen.  Either may take the first client."""
    path = json.loads(next(JOURNALS.glob("*.json")).read_text())["guest"]["monitor"]
    with contextlib.ExitStack() as held:
        for _ in range(2):
            client = held.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(path)
            stream = held.enter_context(client.makefile("rw"))
            stream.readline()
            say(stream, "qmp_capabilities")
            if say(stream, "query-cpus-fast")[0]["thread-id"] in map(int, os.listdir(f"/proc/{old}/task")):
                say(stream, "cont")
                time.sleep(1)
                return
    raise AssertionError(f"no monitor of {domain} is old QEMU's")


def say(stream: TextIO, command: str) -> Any:
    stream.write(json.dumps({"execute": command}) + "\n")
    stream.flush()
    while True:
        answer = json.loads(stream.readline())
        if "event" not in answer:
            return answer["return"]


def finish(order: Order, virtcpr: subprocess.Popen[str], seen: Seen) -> None:
    if order.deaf or "virtcpr" in order.victims:
        seen.code = virtcpr.wait(SECONDS)
        if not order.moment:
            look_at_journal(seen)
        return
    out, seen.words = virtcpr.communicate(timeout=SECONDS)
    seen.code = virtcpr.returncode
    with contextlib.suppress(ValueError):
        seen.report = json.loads(out)


def settle(order: Order, seen: Seen) -> None:
    if order.then == "hook":
        run("systemctl", "start", *UNITS)
    # At a random moment there may have been no guardian yet, or a daemon that runs still.
    left = not order.moment and list(JOURNALS.glob("*.json")) and not guardians()
    if order.then == "recover" or left:
        done = subprocess.run(["virtcpr", "recover", "--all"], capture_output=True, text=True, check=False)
        seen.words += done.stdout + done.stderr


def await_settled(order: Order) -> float:
    """When the journal was empty and the daemon, asked after that, answered."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if not list(JOURNALS.glob("*.json")):
            with contextlib.suppress(libvirt.libvirtError), connected() as connection:
                connection.lookupByName(order.domain).state()
                answered = time.monotonic()
                if order.then == "guardian":
                    await_end_of_guardian()
                return answered
        time.sleep(POLL_SECONDS)
    journal = [path.read_text() for path in JOURNALS.glob("*.json")]
    raise TimeoutError(f"not settled, or no daemon, after {SECONDS:g} s: {journal}")


def await_end_of_guardian() -> None:
    deadline = time.monotonic() + SECONDS
    while guardians() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def guardians() -> list[str]:
    words = (read(path) for path in Path("/proc").glob("[0-9]*/cmdline"))
    return [line for line in words if "\0virtcpr.actions.guardian\0" in line]


@contextlib.contextmanager
def connected() -> Any:
    connection = libvirt.open("qemu:///system")
    try:
        yield connection
    finally:
        connection.close()


def look(name: str) -> dict[str, Any]:
    """The domain as libvirt has it, the processes that there are, and what a swap must not leave."""
    with connected() as connection:
        domain = connection.lookupByName(name)
        deadline = time.monotonic() + SECONDS
        while domain.isActive() and not qemus(name) and time.monotonic() < deadline:  # libvirt is about to notice
            time.sleep(0.05)
        now = {
            "active": bool(domain.isActive()),
            "uuid": domain.UUIDString(),
            "qemus": qemus(name),
            "left": leftovers(),
        }
        if not now["active"]:
            return now
        pid = int(Path(f"/run/libvirt/qemu/{name}.pid").read_text())
        status, parameters = ask(domain, "query-status"), ask(domain, "query-migrate-parameters")
        state = domain.state()[0]
        return now | {
            "id": domain.ID(),
            "pid": pid,
            "running": state == libvirt.VIR_DOMAIN_RUNNING and status["running"],
            "mode": parameters["mode"],
            "oom_score_adj": int(read(Path(f"/proc/{pid}/oom_score_adj"))),
            "emulator": domain.XMLDesc().partition("<emulator>")[2].partition("<")[0],
        }


def ask(domain: Any, command: str) -> Any:
    return json.loads(libvirt_qemu.qemuMonitorCommand(domain, json.dumps({"execute": command}), 0))["return"]


def leftovers() -> list[str]:
    found = [str(path) for path in (*JOURNALS.glob("*"), *KEPT.glob("*"))]
    for root in ("/var/lib/libvirt/qemu", "/run/libvirt/qemu"):
        names = ("cpr.sock", "main.sock", "qemu-system", "*.virtcpr")
        found += [str(path) for name in names for path in Path(root).rglob(name)]
    return found


def run(*argv: str) -> int:
    return subprocess.run(argv, capture_output=True, check=False, timeout=SECONDS).returncode


if __name__ == "__main__":
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    asked = json.load(sys.stdin)
    print(json.dumps(asdict(strike(Order(**asked)))))
