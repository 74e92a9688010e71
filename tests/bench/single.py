"""One guest: its pause against bare QEMU's in turn, from outside and by QEMU; its blackout against a restart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.bench.figures import Row
from tests.bench.many import restart
from tests.bench.measure import AFTER_SECONDS, TURNS, BareGuests, moved, pause, settle, upgrade
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILT
from tests.lab.support.client import Witness
from tests.lab.support.guests import SMALL, Shape, lively

GUEST = lively(SMALL)


def rows(guest: Shape = GUEST, turns: int = TURNS) -> Iterator[Row]:
    client.start(guest)
    witness = Witness()
    witness.watch(guest)
    yield from against_bare(witness, guest, turns)
    yield blackout(witness, guest, turns)
    witness.close()
    client.remove(guest.name)


def against_bare(witness: Witness, guest: Shape, turns: int) -> Iterator[Row]:
    twin = replace(guest, name="bare", number=30)
    bare = BareGuests([(guest.name, twin.number)])
    bare.start()
    witness.watch(twin)
    ours, theirs, ours_outside, theirs_outside = [], [], [], []
    for turn in range(turns):
        ours_outside.append(pause(witness, guest, lambda: ours.append(moved(guest.name))))
        build = (REBUILT, EMULATOR)[turn % 2]
        theirs_outside.append(pause(witness, twin, lambda build=build: theirs.extend(bare.swap(build))))  # type: ignore[misc]
    bare.end()
    yield Row("outside", "pause from outside, virtcpr against bare QEMU", ours_outside, theirs_outside, 0.8)
    yield Row("pause", "pause by QEMU, virtcpr against bare QEMU", ours, theirs, 0.8)


def blackout(witness: Witness, guest: Shape, turns: int) -> Row:
    ours, theirs = [], []
    for _ in range(turns):
        settle(witness, guest, AFTER_SECONDS)
        ours.append(float(upgrade(guest.name)["blackout_ms"]))
        settle(witness, guest, AFTER_SECONDS)
        theirs.append(restart(1))
    return Row("blackout", "blackout, against a restart of libvirtd", ours, theirs, 1.15)
