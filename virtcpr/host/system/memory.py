"""The host's memory: how much a second guest could use."""

from __future__ import annotations

import re
from pathlib import Path

KSM = Path("/sys/kernel/mm/ksm")
HUGEPAGES = Path("/sys/kernel/mm/hugepages")


def available_kib() -> int:
    """Memory available without swapping, in KiB, by the kernel's estimate (proc_meminfo(5), MemAvailable)."""
    line = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(line.group(1)) if line else 0


def merges() -> bool:
    """Whether the kernel merges equal pages (admin-guide/mm/ksm.rst)."""
    try:
        return (KSM / "run").read_text().strip() == "1"
    except OSError:
        return False


def free_hugepages() -> dict[int, int]:
    """Size of a hugepage in KiB → how many are free and not reserved."""
    free_pages = {}
    for pool in HUGEPAGES.glob("hugepages-*kB"):
        free, promised = (int((pool / name).read_text()) for name in ("free_hugepages", "resv_hugepages"))
        free_pages[int(pool.name.removeprefix("hugepages-").removesuffix("kB"))] = free - promised
    return free_pages
