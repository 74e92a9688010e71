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


SEVERAL = ["VIRTIO_NET_F_MQ: Multiqueue with automatic receive steering supported"]
OTHER = ["VIRTIO_NET_F_CTRL_VQ: Control channel available"]


class Answers:
    """As QEMU 10.0 answers; ``statuses`` None: it doesn't know the question."""

    def __init__(self, offered: list[str], statuses: list[str] | None, taken: list[str]) -> None:
        self.offered, self.statuses, self.taken = offered, statuses, taken

    async def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> object:
        if self.statuses is None:
            raise QmpRefused("The command x-query-virtio has not been found")
        if command == "x-query-virtio":
            return [{"name": "virtio-blk", "path": "/disk"}, {"name": "virtio-net", "path": "/net"}]
        assert (command, arguments) == ("x-query-virtio-status", {"path": "/net"})
        return {
            "status": {"statuses": self.statuses},
            "host-features": {"dev-features": self.offered},
            "guest-features": {"dev-features": self.taken},
        }


def ask(offered: list[str], statuses: list[str] | None, taken: list[str]) -> None:
    asyncio.run(at_work(cast("Monitor", Answers(offered, statuses, taken)), "web"))


@pytest.mark.parametrize(
    ("offered", "statuses", "taken"), [(SEVERAL, STARTED, SEVERAL), (OTHER, [], []), (SEVERAL, None, [])]
)
def test_it_goes_on(offered: list[str], statuses: list[str] | None, taken: list[str]) -> None:
    ask(offered, statuses, taken)


@pytest.mark.parametrize(("statuses", "taken"), [([], []), (STARTED[:1], []), (STARTED[:1], SEVERAL), (STARTED, OTHER)])
def test_a_guest_that_boots_is_left_alone(statuses: list[str], taken: list[str]) -> None:
    with pytest.raises(HostError, match="web: the guest boots, or its driver knows no interface") as raised:
        ask(SEVERAL, statuses, taken)
    assert raised.value.hint == "try again when it is up, or 'virtcpr upgrade --mode reboot web'"
