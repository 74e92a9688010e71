"""Where a QEMU runs and what it may take of the host: libvirt arranges that when it starts a guest, and never again.

The two pictures that are compared are of old QEMU, taken while it still is there, and of new, with libvirt back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

Values = Mapping[str, str]  # what → as /proc or the kernel has it

MAIN = "the main thread"


@dataclass(frozen=True)
class Placement:
    """``threads`` are those that libvirt knows: vCPUs, iothreads and the main one; ``helpers`` are all others."""

    process: Values
    threads: Mapping[str, Values]
    helpers: Mapping[str, Values] = field(default_factory=dict)


def differences(before: Placement, after: Placement) -> Iterator[str]:
    """What isn't where it was, or isn't what it was, as people read it."""
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
    """QEMU and the kernel make threads of their own as they need them, each where the one is that needs it: in the
    place of some thread of old's."""
    for what in ("cgroup", "CPU affinity"):
        known = {thread[what] for thread in usual if what in thread}
        if what in values and known and values[what] not in known:
            yield f"the {what} of {name} is {values[what]}, old QEMU's threads had {' or '.join(sorted(known))}"


def _changed(before: Values, after: Values) -> Iterator[tuple[str, str, str]]:
    """What can't be read of both isn't compared."""
    return ((what, then, after[what]) for what, then in before.items() if after.get(what, then) != then)
