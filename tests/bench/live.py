"""Mode live: a guest of 4 GiB, most of it written, against an ordinary migration of the same guest by bare QEMU; lying
still, and while it writes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tests.bench.figures import Item, Row
from tests.bench.measure import bare_migrations, other_build
from tests.lab.support import client
from tests.lab.support.client import Witness
from tests.lab.support.guests import SMALL, Shape, lively
from tests.lab.support.kept import LabError

TURNS = 3
SIZE = replace(lively(SMALL), memory_mib=4096, ram_mib=3072, prepared=False)
STILL = replace(SIZE, name="still", number=47, kernel_options="witness.ram_pause=1000000")
# A MiB is written and compared every 5 ms, as far as the processor lets it.
WRITER = replace(SIZE, name="writer", number=48, ram_pause_us=5_000)
COPYING = ("copy", "switch", "received")


@dataclass
class Ours:
    totals: list[float] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    blackouts: list[float] = field(default_factory=list)
    transfers: list[float] = field(default_factory=list)  # blackouts of mode transfer

    def move(self, name: str) -> None:
        """By mode live, which makes it ready, and then by mode transfer."""
        report = _moved(name, "live")
        phases = {phase["name"]: phase["ms"] for phase in report["domains"][0]["phases"]}
        self.totals.append(sum(phases[name] for name in COPYING))
        self.pauses.append(report["domains"][0]["pause_ms"])
        self.blackouts.append(report["blackout_ms"])
        self.transfers.append(_moved(name, "transfer")["blackout_ms"])


def _moved(name: str, mode: str) -> Any:
    report = client.upgrade(name, "--mode", mode, "--emulator", other_build(name))
    if report["exit_code"] != 0:
        raise LabError(f"virtcpr failed: {report}")
    return report


def rows() -> Iterator[Item]:
    witness = Witness()
    for shape, what in ((STILL, "lies still"), (WRITER, "writes on")):
        yield from _against_bare(witness, shape, what)
    witness.close()


def _against_bare(witness: Witness, shape: Shape, what: str) -> Iterator[Item]:
    client.start(shape)
    witness.watch(shape, timeout=300)
    witness.beats(shape, 5000, timeout=120)  # its RAM is written once
    ours = Ours()
    for _ in range(TURNS):
        ours.move(shape.name)
        witness.beats(shape, 1000, timeout=60)
    twin = replace(shape, name=f"bare-{shape.name}", number=shape.number + 10)
    found = bare_migrations(witness, shape, twin, TURNS, settle=5000)
    totals, pauses = ([one[key] for one in found] for key in ("total_ms", "pause_ms"))
    key, than = f"live-{shape.name}", f"a guest of 4 GiB that {what}: mode live against"
    yield Row(f"{key}-total", f"total time, {than} a migration by bare QEMU", ours.totals, totals, 1.1)
    yield Row(f"{key}-pause", f"pause by QEMU, {than} a migration by bare QEMU", ours.pauses, pauses, 1.2)
    yield Row(f"{key}-blackout", f"blackout, {than} mode transfer", ours.blackouts, ours.transfers, 1.1)
