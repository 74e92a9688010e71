"""A guest with 2 GiB written: its pause against ways that copy its RAM, ``managedsave`` and ordinary migration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.bench.figures import Item, Row
from tests.bench.measure import bare_migrations, milliseconds, moved, pause
from tests.bench.reboot import forward_at_once
from tests.lab.support import client
from tests.lab.support.client import Witness, virsh
from tests.lab.support.guests import SMALL, lively

TURNS = 3
# Written once, and then it lies still: ordinary migration has nothing to send twice.
WRITTEN = replace(
    lively(SMALL),
    name="written",
    number=45,
    memory_mib=2560,
    ram_mib=2048,
    kernel_options="witness.ram_pause=1000000",
)
BARE = replace(WRITTEN, name="bare", number=46)
WHAT = "with 2 GiB written"


def rows() -> Iterator[Item]:
    forward_at_once()
    witness = Witness()
    client.start(WRITTEN)
    witness.watch(WRITTEN, timeout=300)
    ours: list[float] = []
    ours_outside, saved, saved_outside = [], [], []
    for _ in range(TURNS):
        ours_outside.append(pause(witness, WRITTEN, lambda: ours.append(moved(WRITTEN.name))))
        saved_outside.append(pause(witness, WRITTEN, lambda: saved.append(milliseconds(managed_save))))
    wall = f"wall time of managedsave and start {WHAT}, against the pause by QEMU of virtcpr"
    yield Row("managedsave", wall, saved, ours, 100, at_least=True)
    silence = f"pause from outside, managedsave and start {WHAT} against virtcpr"
    yield Row("managedsave-outside", silence, saved_outside, ours_outside, 100, at_least=True)
    yield from migration(witness, ours)
    witness.close()


def managed_save() -> None:
    virsh("managedsave", WRITTEN.name, timeout=300)
    virsh("start", WRITTEN.name, timeout=300)


def migration(witness: Witness, ours: list[float]) -> Iterator[Item]:
    """Between two QEMU processes over a unix socket, as fast as it goes."""
    found = bare_migrations(witness, WRITTEN, BARE, TURNS, settle=0)
    total = f"total time of a local migration {WHAT}, against the pause by QEMU of virtcpr"
    yield Row("migration", total, [one["total_ms"] for one in found], ours, 20, at_least=True)
    yield Row("migration-pause", f"pause by QEMU, a local migration {WHAT} against virtcpr",
              [one["pause_ms"] for one in found], ours)  # fmt: skip
    ram = f"memory of both QEMUs at the end of a local migration {WHAT}, against old's before"
    yield Row("migration-ram", ram, [one["both_mib"] for one in found], [one["before_mib"] for one in found], 2,
              unit="MiB", at_least=True)  # fmt: skip
