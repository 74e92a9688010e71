"""Bare QEMU: a guest with a libvirt domain's own command line, and cpr-transfer by a plain script.  Runs in the lab.

usage: bare.py DOMAIN NUMBER   then, on stdin, one line a swap: the emulator to move to; "end" ends it

It is what virtcpr's pause is measured against: no libvirt, no roll-back, no checks, new QEMU resumes by itself.
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


class Qmp:
    def __init__(self, path: Path) -> None:
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

    def __call__(self, command: str, **arguments: object) -> Any:
        request = {"execute": command, "arguments": arguments}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = json.loads(self.lines.readline())
            if "return" in answer or "error" in answer:
                return answer.get("return")

    def completed(self) -> None:
        while json.loads(self.lines.readline()).get("data", {}).get("status") != "completed":
            pass


class Bare:
    """The guest; ``number`` decides its addresses, as in tests/lab/support/guests.py."""

    def __init__(self, domain: str, number: int) -> None:
        shutil.rmtree(HOME, ignore_errors=True)
        HOME.mkdir()
        self.turn = 0
        pid = Path(f"/run/libvirt/qemu/{domain}.pid").read_text().strip()
        self.argv = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
        self.number = number
        self.tap = self._make_tap()
        self.process = self._start(self.argv[0], ())
        self.monitor = Qmp(HOME / "monitor0.sock")

    def _make_tap(self) -> int:
        tap = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", b"bare0", TAP_WITH_HEADER))
        os.set_blocking(tap, False)
        for command in ("master virbr0", "up"):
            subprocess.run(["ip", "link", "set", "bare0", *command.split()], check=True)
        return tap

    def _start(self, emulator: str, more: tuple[str, ...]) -> subprocess.Popen[bytes]:
        words = [emulator]
        for option in CommandLine.parse(self.argv).options:
            if option.name in ("incoming", "S") or '"qom-type":"secret"' in (option.value or ""):
                continue
            words += [f"-{option.name}", *([self._own(option.value)] if option.value is not None else [])]
        os.set_inheritable(self.tap, True)
        with (HOME / "log").open("a") as log:
            return subprocess.Popen([*words, *more], stdin=subprocess.DEVNULL, stdout=log, stderr=log, close_fds=False)

    def _own(self, word: str) -> str:
        """The same argument, with this guest's own resources."""
        if "id=charmonitor" in word:
            return f"socket,id=charmonitor,path={HOME}/monitor{self.turn}.sock,server=on,wait=off"
        if '"type":"tap"' in word:
            return json.dumps({**json.loads(word), "fd": str(self.tap)})
        if '"driver":"file"' in word:
            return self._own_disk(json.loads(word))
        word = re.sub(r"witness\.id=\d+", f"witness.id={self.number}", word)
        word = re.sub(r"witness\.ip=\S+", f"witness.ip=192.168.122.{self.number + 1}", word)
        return re.sub(r'"mac":"[^"]*"', f'"mac":"52:54:00:58:{self.number:02x}:00"', word)

    def _own_disk(self, node: dict[str, object]) -> str:
        copy = HOME / Path(str(node["filename"])).name
        if not copy.exists():
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(copy), "64M"], check=True)
        return json.dumps({**node, "filename": str(copy)})

    def swap(self, emulator: str) -> None:
        self.turn += 1
        cpr, main = HOME / f"cpr{self.turn}.sock", HOME / f"main{self.turn}.sock"
        channel = {"channel-type": "cpr", "addr": {"transport": "socket", "type": "unix", "path": str(cpr)}}
        incoming = ("-incoming", "defer", "-incoming", json.dumps(channel))
        new = self._start(emulator, incoming)
        while not cpr.exists():
            time.sleep(0.01)
        time.sleep(0.2)  # not part of the pause: it only has to listen
        old = self.monitor
        old("migrate-set-parameters", mode="cpr-transfer")
        old("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        main_channel = {"channel-type": "main", "addr": {"transport": "socket", "type": "unix", "path": str(main)}}
        old("migrate", channels=[main_channel, channel])
        self.monitor = Qmp(HOME / f"monitor{self.turn}.sock")
        self.monitor("migrate-incoming", uri=f"unix:{main}")
        old.completed()
        self.process.kill()
        self.process.wait()
        self.process = new


def main() -> None:
    guest = Bare(sys.argv[1], int(sys.argv[2]))
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        guest.swap(line.strip())
        print("swapped", flush=True)
    guest.process.kill()


if __name__ == "__main__":
    main()
