"""The settings of a tap queue that QEMU changes when it opens one.

New QEMU sets the length of the packet header and the offloads on the very queue that old QEMU still uses
(net/tap.c, net_tap_fd_init; net/tap-linux.c, tap_fd_set_vnet_hdr_len and tap_fd_set_offload): until the guest runs in
new, every packet of old would be cut at the wrong place, and after a roll-back for ever.

Of several queues of one interface it detaches all but the first, until it knows how many the guest uses; one that is
detached already, because the guest in old has no use for it, makes it abort (hw/net/virtio-net.c,
virtio_net_set_queue_pairs), and so does one that is attached when the guest has use for it.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from dataclasses import dataclass

TUNGETIFF, TUNGETVNETHDRSZ = 0x800454D2, 0x800454D7  # linux/if_tun.h
TUNSETOFFLOAD, TUNSETVNETHDRSZ, TUNSETQUEUE = 0x400454D0, 0x400454D8, 0x400454D9
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN = 1, 2, 4, 8
IFF_VNET_HDR, IFF_MULTI_QUEUE, IFF_ATTACH_QUEUE, IFF_DETACH_QUEUE = 0x4000, 0x0100, 0x0200, 0x0400
SIOCETHTOOL, ETHTOOL_GTXCSUM, ETHTOOL_GTSO = 0x8946, 0x16, 0x1E  # linux/sockios.h, linux/ethtool.h


@dataclass(frozen=True)
class TapQueue:
    """A queue by a descriptor of this process, with the header length (bytes) and offloads that old QEMU set.

    ``source`` is its number in old QEMU; ``attached``: it gets packets.
    """

    source: int
    fd: int
    header: int
    offload: int
    attached: bool = True

    @classmethod
    def of(cls, source: int, fd: int) -> TapQueue | None:
        """The queue's settings now; None where it carries no packet header, so that there is nothing to lose."""
        name, flags = _interface(fd)
        if not flags & IFF_VNET_HDR:
            return None
        return cls(source, fd, _header(fd), _offload(name), attached=not flags & IFF_DETACH_QUEUE)

    def keep_header(self) -> bool:
        """Put old's header length back where new has changed it; whether it had."""
        if _header(self.fd) == self.header:
            return False
        fcntl.ioctl(self.fd, TUNSETVNETHDRSZ, struct.pack("i", self.header))
        return True

    def attach(self, attached: bool) -> bool:
        """Have the interface's packets come here, too, or not; whether that is a change."""
        _, flags = _interface(self.fd)
        if not flags & IFF_MULTI_QUEUE or attached is not bool(flags & IFF_DETACH_QUEUE):
            return False
        wanted = IFF_ATTACH_QUEUE if attached else IFF_DETACH_QUEUE
        fcntl.ioctl(self.fd, TUNSETQUEUE, struct.pack("16xH22x", wanted))
        return True

    def restore(self) -> None:
        """Put everything back as old had it."""
        self.attach(self.attached)
        self.keep_header()
        fcntl.ioctl(self.fd, TUNSETOFFLOAD, self.offload)


def _interface(fd: int) -> tuple[bytes, int]:
    """Its name and flags."""
    name, flags = struct.unpack("16sH22x", fcntl.ioctl(fd, TUNGETIFF, bytes(40)))
    return name, flags


def _header(fd: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(fd, TUNGETVNETHDRSZ, struct.pack("i", 0)))[0])


def _offload(interface: bytes) -> int:
    """TUN_F_* as far as the interface shows them: the kernel has no call that reads them back."""
    if not _feature(interface, ETHTOOL_GTXCSUM):
        return 0
    segmentation = TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN
    return TUN_F_CSUM | (segmentation if _feature(interface, ETHTOOL_GTSO) else 0)


def _feature(interface: bytes, command: int) -> bool:
    value = array.array("I", [command, 0])
    address, _ = value.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCETHTOOL, struct.pack("16sQ16x", interface, address))
    return bool(value[1])
