"""The emulated host, whose guests run under KVM: its ratios, beside those of the lab's part ``single``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from tests.bench import single
from tests.bench.figures import Item
from tests.host.support import chosen
from tests.host.support.guests import KVM
from tests.lab.support import client

GUEST = replace(KVM, name="single", serial="pty", interval_us=20_000)
TURNS = 3  # a move takes about a minute there


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
    """Without bounds: those are the lab's."""
    for row in single.rows(GUEST, TURNS):
        yield replace(row, bound=None)
