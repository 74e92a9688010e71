"""The QMP commands of an ordinary migration between two processes of one host (mode live).

QEMU switches over by itself as soon as what is left to copy can be copied within ``downtime-limit``.  libvirt's daemon
must be away then.  So RAM is copied at full speed until little is left, and from then on nearly not at all, until the
daemon is away: ``max-bandwidth`` holds QEMU up (migration/migration.c, migration_rate_limit()).  If it comes to the end
all the same, it pauses the guest and waits (``pause-before-switchover``): nobody has handed anything over by then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from virtcpr.actions.monitor import query
from virtcpr.domain import qmp
from virtcpr.errors import HostError, QmpError
from virtcpr.host.qemu.qmp import Qmp

UNLIMITED = 1 << 50  # bytes a second
HELD = 1 << 10  # bytes a second: a page or two in a tenth of a second
AT_ONCE_MS = 1  # the least downtime-limit: with 0 QEMU would never look at what is left (migration_iteration_run())
# Pages that were never written are no pages in new QEMU, either: without multifd new would read them, and by that take
# memory for them (migration/ram.c, ram_handle_zero(); migration/multifd-zero-page.c).
NEW = {"events": True, "multifd": True}
NOT_KEPT = ("multifd",)  # capabilities that new doesn't keep, or the next move would be refused
ONLY_NOW = ("multifd", "pause-before-switchover", "auto-converge")  # capabilities that old doesn't keep
OLD = {"events": True, "return-path": True, **dict.fromkeys(ONLY_NOW, True)}
CHANNELS = 1
# Percent of the time that a guest which writes too fast is held up at most.  QEMU's own 99 leaves it 10 ms a second
# (system/cpu-throttle.c, cpu_throttle_thread()): its users would take it for dead.
THROTTLE = 80
SAMPLE_SECONDS = 1  # between QEMU's two looks at a sample of pages
SAMPLED_SECONDS = 3.0
SAMPLE_POLL = 0.05


@dataclass(frozen=True)
class Copied:
    """How far old QEMU is: sizes in bytes, rates in bytes a second.

    ``dirtied`` is how fast the guest writes; QEMU knows it from the second pass over RAM on.
    """

    status: str
    remaining: int = 0
    total: int = 0
    rate: float = 0.0
    dirtied: float = 0.0
    passes: int = 0
    why: str = ""


async def arm(old: Qmp, name: str) -> None:
    """Ask old QEMU for its blockers, and set it up.  Raises HostError."""
    reasons = qmp.blocked_reasons(await old.execute("query-migrate"))
    if reasons:
        raise HostError(f"{name}: QEMU refuses: {'; '.join(reasons)}")
    await query.set_capabilities(old, OLD)
    await _limits(old, UNLIMITED, AT_ONCE_MS)


async def begin(old: Qmp, new: Qmp, main: str, *, held: bool) -> None:
    """Let old QEMU copy RAM to new, which stays alive if it can't load it; nearly nothing if ``held``."""
    await query.set_capabilities(new, NEW)
    await new.execute("migrate-set-parameters", {"multifd-channels": CHANNELS})
    await new.execute("migrate-incoming", {"uri": f"unix:{main}", "exit-on-error": False})
    if held:
        await hold(old)
    await old.execute("migrate", {"uri": f"unix:{main}"})


class Sampling:
    """How fast the guest writes, until QEMU has copied its RAM once and knows better.

    QEMU compares a sample of RAM before and after a second (migration/dirtyrate.c), which needs nothing of the
    accelerator, and can be done while RAM is copied.
    """

    def __init__(self, old: Qmp) -> None:
        self._old = old
        self._due = 0.0  # when the sample is there, by the monotonic clock
        self.writes: float | None = None

    async def begin(self) -> None:
        self._due = time.monotonic() + SAMPLE_SECONDS
        with suppress(QmpError):  # somebody else's sample is being taken: that one is as good
            await self._old.execute("calc-dirty-rate", {"calc-time": SAMPLE_SECONDS})

    async def most(self) -> float:
        """Wait for the first sample.  Bytes a second, the most that was seen.  Raises QmpError.

        Somebody else's may take a minute (``virsh domdirtyrate-calc``): it is as if the guest wrote nothing then.
        """
        await self.look()
        deadline = time.monotonic() + SAMPLED_SECONDS
        while self.writes is None and time.monotonic() < deadline:
            await asyncio.sleep(SAMPLE_POLL)
            await self.look()
        return self.writes or 0.0

    async def look(self) -> None:
        """If a sample is there, take it, and begin the next.  Raises QmpError."""
        if time.monotonic() < self._due:
            return
        answer = qmp.obj(await self._old.execute("query-dirty-rate"))
        if answer.get("status") != "measuring":
            seen = float(int(str(answer.get("dirty-rate", 0))) << 20)
            self.writes = max(seen, self.writes or 0.0)
            await self.begin()


async def size(old: Qmp) -> int:
    """Bytes of the guest's RAM, all devices of it."""
    memory = qmp.obj(await old.execute("query-memory-size-summary"))
    return sum(int(str(memory.get(part, 0))) for part in ("base-memory", "plugged-memory"))


async def look(old: Qmp) -> Copied:
    """How far it is.  Raises QmpError."""
    answer = qmp.obj(await old.execute("query-migrate"))
    status, why = qmp.text(answer.get("status")), qmp.text(answer.get("error-desc"))
    if "ram" not in answer:
        return Copied(status, why=why)
    ram: Mapping[str, object] = qmp.obj(answer["ram"])

    def number(key: str) -> int:
        return int(str(ram.get(key, 0)))

    return Copied(
        status=status,
        remaining=number("remaining"),
        total=number("total"),
        rate=float(str(ram.get("mbps", 0))) * 1e6 / 8,
        dirtied=float(number("dirty-pages-rate") * number("page-size")),
        passes=number("dirty-sync-count"),
        why=why,
    )


async def hold(old: Qmp) -> None:
    """Copy nearly nothing more for now."""
    await _limits(old, HELD, AT_ONCE_MS)


async def go_faster(old: Qmp) -> None:
    """Copy at full speed, as before ``hold``."""
    await _limits(old, UNLIMITED, AT_ONCE_MS)


async def release(old: Qmp, downtime_ms: int) -> None:
    """Copy the rest, and pause the guest once that takes no longer than this."""
    await _limits(old, UNLIMITED, downtime_ms)


async def go_on(old: Qmp) -> None:
    """Old has paused the guest: hand over its devices."""
    await old.execute("migrate-continue", {"state": "pre-switchover"})


async def settle(new: Qmp) -> None:
    """New QEMU has the guest: as one that libvirt has started."""
    await query.set_capabilities(new, dict.fromkeys(NOT_KEPT, False))


async def put_back(old: Qmp, limits: Mapping[str, int]) -> None:
    """Old QEMU as it was before ``arm``, but for its return path."""
    await query.set_capabilities(old, dict.fromkeys(ONLY_NOW, False))
    await old.execute("migrate-set-parameters", limits)


async def _limits(old: Qmp, bandwidth: int, downtime_ms: int) -> None:
    limits = {
        "max-bandwidth": bandwidth,
        "downtime-limit": downtime_ms,
        "multifd-channels": CHANNELS,
        "max-cpu-throttle": THROTTLE,
    }
    await old.execute("migrate-set-parameters", limits)
