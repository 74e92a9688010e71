"""One guest: its pause against bare QEMU's in turn, from outside and by QEMU; its blackout against a restart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.bench.figures import Item, Row
from tests.bench.many import restart
from tests.bench.measure import TURNS, BareGuests, moved, pause, upgrade
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILT
from tests.lab.support.client import Witness
from tests.lab.support.guests import SMALL, lively

OURS = lively(SMALL)
BARE = replace(OURS, name="bare", number=30)


def rows() -> Iterator[Item]:
    client.start(OURS)
    witness = Witness()
    witness.watch(OURS)
    yield from against_bare(witness)
    yield blackout(witness)
    witness.close()
    client.remove(OURS.name)


def against_bare(witness: Witness) -> Iterator[Row]:
    bare = BareGuests([(OURS.name, BARE.number)])
    bare.start()
    witness.watch(BARE)
    ours, theirs, ours_outside, theirs_outside = [], [], [], []
    for turn in range(TURNS):
        ours_outside.append(pause(witness, OURS, lambda: ours.append(moved(OURS.name))))
        build = (REBUILT, EMULATOR)[turn % 2]
        theirs_outside.append(pause(witness, BARE, lambda build=build: theirs.extend(bare.swap(build))))  # type: ignore[misc]
    bare.end()
    yield Row("outside", "pause from outside, virtcpr against bare QEMU", ours_outside, theirs_outside, 0.8)
    yield Row("pause", "pause by QEMU, virtcpr against bare QEMU", ours, theirs, 0.8)


def blackout(witness: Witness) -> Row:
    ours, theirs = [], []
    for _ in range(TURNS):
        witness.beats(OURS, 500)
        ours.append(float(upgrade(OURS.name)["blackout_ms"]))
        witness.beats(OURS, 500)
        theirs.append(restart(1))
    return Row("blackout", "blackout, against a restart of libvirtd", ours, theirs, 1.15)
