"""Mode transfer, parked: the pause has the start of new QEMU in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.bench.figures import Item, Row
from tests.bench.measure import TURNS, moved, pause
from tests.lab.support import client
from tests.lab.support.client import Witness
from tests.lab.support.guests import SMALL, lively

GUEST = replace(lively(SMALL), name="to-park", number=32)
PARKED = ("--mode", "parked")


def rows() -> Iterator[Item]:
    witness = Witness()
    client.start(GUEST)
    witness.watch(GUEST, timeout=90)
    parked, usual, outside = [], [], []
    for _ in range(TURNS):
        usual.append(moved(GUEST.name))
        outside.append(pause(witness, GUEST, lambda: parked.append(moved(GUEST.name, *PARKED))))
    witness.close()
    client.remove(GUEST.name)
    yield Row("parked", "pause by QEMU, parked", parked, bound=300)
    yield Row("parked-outside", "pause from outside, parked", outside, bound=300)
    yield Row("parked-transfer", "pause by QEMU, parked against mode transfer, the same guest", parked, usual)
