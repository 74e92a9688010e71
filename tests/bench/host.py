"""The emulated host, whose guests run under KVM: what the lab measures, for its ratios beside the lab's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from tests.bench import many, single
from tests.bench.figures import Item, Row
from tests.bench.herd import SLOW_US
from tests.host.support import chosen
from tests.host.support.guests import KVM
from tests.lab.support import client

GUEST = replace(KVM, name="single", serial="pty", interval_us=SLOW_US)
COUNT = 8


@contextlib.contextmanager
def fresh() -> Iterator[None]:
    """Commands go to a host on which nothing was done before; it is stopped at the end."""
    host = chosen.host()
    host.build()
    try:
        host.reset()
        with client.on(chosen.MACHINE):
            client.shell(chosen.RUN_ANY)
            yield
    finally:
        host.down()


def rows() -> Iterator[Item]:
    """Those that are ratios; a key begins with the part of the lab's that has the same row."""
    idle = f"idle-{COUNT}"
    for part, items in (("single", single.rows(GUEST)), (idle, many.rows(COUNT, busy=False, kvm=True))):
        for item in items:
            if isinstance(item, Row) and item.against:
                yield replace(item, key=f"{part} {item.key}", bound=None)
