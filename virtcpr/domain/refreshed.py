"""What libvirt's daemon writes into a running domain's XML by itself, because the guest did something.

The handlers of QEMU's events write it (src/qemu/qemu_process.c, qemuProcessHandle*; src/qemu/qemu_driver.c, process*).
No plan depends on it: QEMU hands the same state over as part of its devices.
"""

from __future__ import annotations

from lxml import etree

# Path below <domain>, and the attribute; None: the text.
REFRESHED: tuple[tuple[str, str | None], ...] = (
    ("devices/channel/target", "state"),  # VSERPORT_CHANGE, processSerialChangedEvent
    ("devices/disk/target", "tray"),  # DEVICE_TRAY_MOVED, qemuProcessHandleTrayChange
    ("devices/interface/mac", "currentAddress"),  # NIC_RX_FILTER_CHANGED, qemuDomainSyncRxFilter
    ("devices/memory/target/current", None),  # MEMORY_DEVICE_SIZE_CHANGE, processMemoryDeviceSizeChange
    ("currentMemory", None),  # BALLOON_CHANGE, qemuProcessHandleBalloonChange
    ("clock", "adjustment"),  # RTC_CHANGE, qemuProcessHandleRTCChange
)


def drop(domain: etree._Element) -> None:
    """Remove it from a <domain>, in place."""
    for path, attribute in REFRESHED:
        for node in domain.iterfind(path):
            if attribute is None:
                node.text = None
            elif attribute in node.attrib:
                del node.attrib[attribute]


def open_channels(domain: etree._Element) -> frozenset[str]:
    """The names of the channels that the guest has opened."""
    targets = domain.iterfind("devices/channel/target[@state='connected']")
    return frozenset(target.get("name", "") for target in targets)
