"""Bare QEMU: guests with libvirt domains' own command lines, and cpr-transfer by a plain script.  Runs in the lab.

usage: bare.py DOMAIN NUMBER [DOMAIN NUMBER]…   prints "read" once it has read the domains' command lines

Then one line on stdin asks for one thing, and one line of JSON answers:

    start               start a guest like each domain
    swap EMULATOR       move all of them, one after the other, by cpr-transfer
    migrate EMULATOR    move all of them by ordinary migration over a unix socket
    end                 end them

It is what virtcpr is measured against: no libvirt, no roll-back, no checks, new QEMU resumes by itself.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from virtcpr.domain.argv import CommandLine

TUNSETIFF, TAP_WITH_HEADER = 0x400454CA, 0x5002  # linux/if_tun.h: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
HOME = Path("/run/bare")
UNLIMITED = 1 << 40  # bytes/s


class Qmp:
    def __init__(self, path: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.socket.connect(str(path))
                break
            except OSError:
                time.sleep(0.001)
        self.lines = self.socket.makefile()
        self.lines.readline()
        self("qmp_capabilities")

    def _read(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.lines.readline())
        if "event" in message:
            self.events.append(message)
        return message

    def __call__(self, command: str, **arguments: object) -> Any:
        request = {"execute": command, "arguments": arguments}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self._read()
            if "return" in answer or "error" in answer:
                return answer.get("return")

    def when(self, name: str, status: str | None = None) -> float:
        """Wait for an event; when QEMU stamped it (its last one, if it has come already), in s."""
        while True:
            for event in reversed(self.events):
                if event["event"] == name and status in (None, event.get("data", {}).get("status")):
                    stamp = event["timestamp"]
                    return float(stamp["seconds"] + stamp["microseconds"] / 1e6)
            self._read()


class Bare:
    """One guest; ``number`` decides its addresses, as in tests/lab/support/guests.py."""

    def __init__(self, domain: str, number: int) -> None:
        self.home = HOME / domain
        self.home.mkdir(parents=True)
        self.turn = 0
        pid = Path(f"/run/libvirt/qemu/{domain}.pid").read_text().strip()
        self.argv = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
        self.number = number
        self.tap = self._make_tap()

    def start(self) -> None:
        self.process = self._start(self.argv[0], ())
        self.monitor = Qmp(self.home / "charmonitor0.sock")

    def _make_tap(self) -> int:
        name = f"bare{self.number}"
        tap = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), TAP_WITH_HEADER))
        os.set_blocking(tap, False)
        for command in ("master virbr0", "up"):
            subprocess.run(["ip", "link", "set", name, *command.split()], check=True)
        return tap

    def _start(self, emulator: str, more: tuple[str, ...]) -> subprocess.Popen[bytes]:
        words = [emulator]
        for option in CommandLine.parse(self.argv).options:
            if option.name in ("incoming", "S") or '"qom-type":"secret"' in (option.value or ""):
                continue
            own = [] if option.value is None else [self._own(option.name, option.value)]
            words += [f"-{option.name}", *own]
        with (self.home / "log").open("a") as log:
            return subprocess.Popen(
                [*words, *more], stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(self.tap,)
            )

    def _own(self, option: str, word: str) -> str:
        """The same argument, with this guest's own resources."""
        if option == "vnc":
            return re.sub("^[^,]*", f"unix:{self.home}/vnc{self.turn}.sock", word)
        if option == "chardev" and word.startswith("socket,"):
            name = word.partition("id=")[2].partition(",")[0]
            return f"socket,id={name},path={self.home}/{name}{self.turn}.sock,server=on,wait=off"
        if '"type":"tap"' in word:
            tap = {key: value for key, value in json.loads(word).items() if key != "vhostfd"}  # QEMU opens its own
            return json.dumps({**tap, "fd": str(self.tap)})
        if '"driver":"file"' in word:
            return self._own_disk(json.loads(word))
        word = re.sub(r"witness\.id=\d+", f"witness.id={self.number}", word)
        word = re.sub(r"witness\.ip=\S+", f"witness.ip=192.168.122.{self.number + 1}", word)
        return re.sub(r'"mac":"[^"]*"', f'"mac":"52:54:00:58:{self.number:02x}:00"', word)

    def _own_disk(self, node: dict[str, object]) -> str:
        """On the same file system as the domain's: both QEMUs write what is left of it while the guest is paused."""
        path = Path(str(node["filename"]))
        copy = path.with_name(f"bare-{path.name}")
        if not copy.exists():
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(copy), "64M"], check=True)
        return json.dumps({**node, "filename": str(copy)})

    def swap(self, emulator: str) -> dict[str, float]:
        self.turn += 1
        cpr, main = self.home / f"cpr{self.turn}.sock", self.home / f"main{self.turn}.sock"
        channel = {"channel-type": "cpr", "addr": {"transport": "socket", "type": "unix", "path": str(cpr)}}
        incoming = ("-incoming", "defer", "-incoming", json.dumps(channel))
        new = self._start(emulator, incoming)
        while not cpr.exists():
            time.sleep(0.01)
        time.sleep(0.05)  # not part of the pause: it only has to listen
        old = self.monitor
        old("migrate-set-parameters", mode="cpr-transfer")
        old("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        main_channel = {"channel-type": "main", "addr": {"transport": "socket", "type": "unix", "path": str(main)}}
        old("migrate", channels=[main_channel, channel])
        self.monitor = Qmp(self.home / f"charmonitor{self.turn}.sock")
        self.monitor("migrate-incoming", uri=f"unix:{main}")
        return self._take_over(old, new)

    def _take_over(self, old: Qmp, new: subprocess.Popen[bytes]) -> dict[str, float]:
        """Wait until new runs the guest, and end old."""
        old.when("MIGRATION", "completed")
        pause = self.monitor.when("RESUME") - old.when("STOP")
        self.process.kill()
        self.process.wait()
        self.process = new
        return {"pause_ms": pause * 1000}

    def migrate(self, emulator: str) -> dict[str, float]:
        """Total time and pause (ms), and the memory (MiB) of the guest's QEMU before, and of both at the end."""
        self.turn += 1
        main = self.home / f"main{self.turn}.sock"
        before = memory_mib(self.process.pid)
        new = self._start(emulator, ("-incoming", f"unix:{main}"))
        old, self.monitor = self.monitor, Qmp(self.home / f"charmonitor{self.turn}.sock")
        old("migrate-set-parameters", **{"mode": "normal", "max-bandwidth": UNLIMITED})
        old("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        begun = time.monotonic()
        old("migrate", uri=f"unix:{main}")
        self.monitor.when("RESUME")
        total = (time.monotonic() - begun) * 1000
        both = memory_mib(self.process.pid) + memory_mib(new.pid)
        return {**self._take_over(old, new), "total_ms": total, "before_mib": before, "both_mib": both}


def memory_mib(pid: int) -> float:
    """A process's share of the memory that it has: what two processes share counts half for each."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def answer(guests: list[Bare], words: list[str]) -> object:
    begun = time.monotonic()
    match words:
        case ["start"]:
            for guest in guests:
                guest.start()
            return {}
        case ["swap", emulator]:
            each = [guest.swap(emulator) for guest in guests]
        case ["migrate", emulator]:
            each = [guest.migrate(emulator) for guest in guests]
        case _:
            raise ValueError(words)
    return {"wall_s": time.monotonic() - begun, "guests": each}


def main() -> None:
    shutil.rmtree(HOME, ignore_errors=True)
    guests = [Bare(domain, int(number)) for domain, number in zip(sys.argv[1::2], sys.argv[2::2], strict=True)]
    print("read", flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        print(json.dumps(answer(guests, line.split())), flush=True)
    for guest in guests:
        guest.process.kill()


if __name__ == "__main__":
    main()
