"""A desktop with all that mode transfer carries, in use: its pause against that of the same guest without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.bench.figures import Item, Row
from tests.bench.measure import TURNS, moved
from tests.lab.support import client, desktops
from tests.lab.support.guests import SMALL
from tests.lab.support.provoke import NAME
from tests.lab.support.served import Served

PLAIN = replace(SMALL, name="plain", number=30, memory_mib=desktops.MEMORY_MIB, firmware="secboot", serial="file")


def rows() -> Iterator[Item]:
    desktop = desktops.made()
    use = Served(desktop, "tpm", "share")
    use.watched()
    client.start(PLAIN)
    desktop.witness.watch(PLAIN, timeout=90)
    whole, plain = [], []
    for _ in range(TURNS):
        plain.append(moved(PLAIN.name))
        use.watched()
        whole.append(moved(NAME))
    desktop.end()
    client.remove(PLAIN.name)
    pause = "pause by QEMU, a desktop with a TPM, shared directories and displays against the same guest without"
    yield Row("desktop", pause, whole, plain, 2.5)
