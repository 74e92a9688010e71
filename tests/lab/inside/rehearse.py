"""Run in the lab: the rehearsal of one mode for running guests, with nothing known beforehand and nothing kept.

usage: python3 rehearse.py MODE DOMAIN...

Prints one JSON object: for each guest the verdict, the words, the seconds that its rehearsal took, and the KiB of
memory that its two processes had at most.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from virtcpr.actions.inspect.probe import Probe
from virtcpr.actions.rehearsal import cache, rehearse
from virtcpr.host.libvirt.connection import Connection
from virtcpr.model import Mode


class Memory(threading.Thread):
    """Watches the memory of this process's children."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.kib: dict[str, int] = {}
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.002):
            for task in Path("/proc/self/task").iterdir():
                with suppress(OSError):
                    for child in (task / "children").read_text().split():
                        self._look(child)

    def _look(self, pid: str) -> None:
        with suppress(OSError):
            if found := re.search(r"^VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE):
                self.kib[pid] = max(self.kib.get(pid, 0), int(found[1]))

    def end(self) -> int:
        self.over.set()
        self.join()
        return sum(sorted(self.kib.values())[-2:])  # the others only said what they load


def main(mode: Mode, names: list[str]) -> None:
    shown = {}
    with Connection(None) as connection, tempfile.TemporaryDirectory() as place:
        cache.PATH = Path(place) / "rehearsals.json"
        probe = Probe()
        for name in names:
            domain = connection.lookup(name)
            part = rehearse.Case(probe.facts(domain), domain.monitor)
            memory = Memory()
            memory.start()
            begun = time.monotonic()
            rehearse.rehearse([part], mode)
            seconds = time.monotonic() - begun
            verdict, words = part.result.trial.value, part.result.words
            shown[name] = {"verdict": verdict, "words": words, "seconds": seconds, "kib": memory.end()}
            cache.PATH.unlink(missing_ok=True)
    print(json.dumps(shown))


if __name__ == "__main__":
    main(Mode(sys.argv[1]), sys.argv[2:])
