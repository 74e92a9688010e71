"""What a rehearsal that is refused says, and that its guest wasn't touched."""

from __future__ import annotations

from tests.lab.support import client

REFUSED = "exceeds allocated max"  # of a guest started in NEW, by NEXT


def untouched(name: str) -> bool:
    """No migration was ever begun in its QEMU."""
    return bool(client.monitor(name, "query-migrate") == {})
