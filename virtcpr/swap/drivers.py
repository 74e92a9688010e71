"""Whether the guest's network drivers are at work, or still to start."""

from __future__ import annotations

from virtcpr.domain import qmp
from virtcpr.errors import HostError, QmpRefused
from virtcpr.host.qmp import Monitor

SEVERAL = ("VIRTIO_NET_F_MQ", "VIRTIO_NET_F_RSS")


async def at_work(old: Monitor, name: str) -> None:
    """See that no driver is about to take queues of an interface with several.

    Old QEMU aborts when it does that in the instant in which all of them are attached for new (``Taps.keep``;
    hw/net/virtio-net.c, virtio_net_set_queue_pairs).  Raises HostError for one that hasn't started, as in a guest that
    boots, or that uses one queue only, as firmware does.  QEMU may come to have no such command (``x-``): then nothing
    is known.
    """
    try:
        for card in map(qmp.obj, qmp.items(await old.execute("x-query-virtio"))):
            if card.get("name") != "virtio-net":
                continue
            status = qmp.obj(await old.execute("x-query-virtio-status", {"path": card["path"]}))
            ready = "DRIVER_OK" in str(qmp.obj(status["status"]).get("statuses"))
            if _several(status["host-features"]) and not (ready and _several(status["guest-features"])):
                raise HostError(
                    f"{name}: the guest boots, or its driver knows no interface with several queues",
                    hint=f"try again when it is up, or 'virtcpr upgrade --mode reboot {name}'",
                )
    except QmpRefused:
        return


def _several(features: qmp.Json) -> bool:
    return any(word in str(qmp.obj(features).get("dev-features")) for word in SEVERAL)
