"""A guest whose network driver is still to start isn't touched where it would take queues in the swap."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest

from virtcpr.errors import HostError, QmpRefused
from virtcpr.host.qmp import Monitor
from virtcpr.swap.drivers import at_work

STARTED = [
    "VIRTIO_CONFIG_S_ACKNOWLEDGE: Valid virtio device found",
    "VIRTIO_CONFIG_S_DRIVER_OK: Driver setup and ready",
]


class Answers:
    """As QEMU 10.0 answers."""

    def __init__(self, queues: int, statuses: list[str] | None) -> None:
        self.queues, self.statuses = queues, statuses

    async def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> object:
        if self.statuses is None:
            raise QmpRefused("The command x-query-virtio has not been found")
        if command == "x-query-virtio":
            return [{"name": "virtio-blk", "path": "/disk"}, {"name": "virtio-net", "path": "/net"}]
        assert (command, arguments) == ("x-query-virtio-status", {"path": "/net"})
        return {"num-vqs": self.queues, "status": {"statuses": self.statuses}}


def ask(queues: int, statuses: list[str] | None) -> None:
    asyncio.run(at_work(cast("Monitor", Answers(queues, statuses)), "web"))


@pytest.mark.parametrize(("queues", "statuses"), [(9, STARTED), (3, []), (9, None)])
def test_it_goes_on(queues: int, statuses: list[str] | None) -> None:
    ask(queues, statuses)


def test_a_guest_that_boots_is_left_alone() -> None:
    with pytest.raises(HostError, match="web: the guest boots, or has no driver") as raised:
        ask(9, STARTED[:1])
    assert raised.value.hint == "try again when it is up, or 'virtcpr upgrade --mode reboot web'"
