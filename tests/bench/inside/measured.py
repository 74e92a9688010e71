"""Run a command and print, as JSON, what it took: seconds, CPU seconds, peak memory (MiB), exit code, output.

Runs in the lab.  usage: measured.py COMMAND ARGUMENT…
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EVERY = 0.05  # s between two looks at the peak, which the kernel forgets when the process ends


def peak_mib(pid: int, known: float) -> float:
    """The most memory that the process itself ever had; not what its children had."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return max(known, int(found[1]) / 1024) if found else known


def cpu_seconds(pid: int) -> float:
    """Of the process itself, which has ended and waits to be reaped."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(command: list[str]) -> dict[str, object]:
    peak = 0.0
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        begun = time.monotonic()
        process = subprocess.Popen(command, stdout=out, stderr=err, stdin=subprocess.DEVNULL)
        while not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            peak = peak_mib(process.pid, peak)
            time.sleep(EVERY)
        seconds, cpu = time.monotonic() - begun, cpu_seconds(process.pid)
        code = process.wait()
        out.seek(0)
        err.seek(0)
        said = {"code": code, "out": out.read(), "err": err.read()}
        return {"seconds": seconds, "cpu_s": cpu, "rss_mib": peak, **said}


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1:])))
