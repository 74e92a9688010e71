"""The memory of the machine, watched while something is done."""

from __future__ import annotations

import subprocess


class MemoryWatch:
    """How far the host's available memory fell below what it was, MiB."""

    def __enter__(self) -> MemoryWatch:
        script = "while :; do awk '/MemAvailable/ { print $2 }' /proc/meminfo; sleep 0.02; done"
        self._process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        out, _err = self._process.communicate()
        samples = [int(line) / 1024 for line in out.split()]
        self.taken_mib = samples[0] - min(samples)
