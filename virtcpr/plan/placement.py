"""Where a QEMU runs and which host resources it may use: libvirt sets that only when it starts a guest.

Old QEMU's placement, read while it still exists, is compared with new QEMU's, read when libvirt is back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

Values = Mapping[str, str]  # resource → its value in /proc or from the kernel

MAIN = "the main thread"


@dataclass(frozen=True)
class Placement:
    """``threads`` are known to libvirt: vCPUs, iothreads and the main thread; ``helpers`` are all others."""

    process: Values
    threads: Mapping[str, Values]
    helpers: Mapping[str, Values] = field(default_factory=dict)


def differences(before: Placement, after: Placement) -> Iterator[str]:
    """Messages about every difference."""
    for what, then, now in _changed(before.process, after.process):
        yield f"the {what} of new QEMU is {now}, it was {then}"
    for name, values in before.threads.items():
        if name not in after.threads:
            yield f"{name} has no thread any more"
        for what, then, now in _changed(values, after.threads.get(name, {})):
            yield f"the {what} of {name} is {now}, it was {then}"
    for name, values in after.helpers.items():
        yield from _strayed(name, values, (*before.threads.values(), *before.helpers.values()))


def _strayed(name: str, values: Values, usual: tuple[Values, ...]) -> Iterator[str]:
    """QEMU and the kernel create helper threads when needed, each in the place of its parent thread: it must be a place
    of some thread of old QEMU."""
    for what in ("cgroup", "CPU affinity"):
        known = {thread[what] for thread in usual if what in thread}
        if what in values and known and values[what] not in known:
            yield f"the {what} of {name} is {values[what]}, old QEMU's threads had {' or '.join(sorted(known))}"


def _changed(before: Values, after: Values) -> Iterator[tuple[str, str, str]]:
    """Values that can't be read on both sides aren't compared."""
    return ((what, then, after[what]) for what, then in before.items() if after.get(what, then) != then)
