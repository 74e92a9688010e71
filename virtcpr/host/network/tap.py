"""The settings of a tap queue that QEMU changes when it opens one.

New QEMU sets the length of the packet header and the offloads on the very queue that old QEMU still uses
(net/tap.c, net_tap_fd_init; net/tap-linux.c, tap_fd_set_vnet_hdr_len and tap_fd_set_offload).  With
the wrong length, old misreads every packet until the guest runs in new, and after a roll-back for ever.

If an interface has several queues, new QEMU detaches all but the first until it knows how many the guest uses.  It
aborts if a queue is detached already because the guest in old doesn't use it (hw/net/virtio-net.c,
virtio_net_set_queue_pairs), or if a queue is attached already when the guest needs it.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
from dataclasses import dataclass

TUNGETIFF, TUNGETVNETHDRSZ = 0x800454D2, 0x800454D7  # linux/if_tun.h
TUNSETOFFLOAD, TUNSETVNETHDRSZ, TUNSETQUEUE = 0x400454D0, 0x400454D8, 0x400454D9
# Flags of TUNSETOFFLOAD by the names of their ethtool features (drivers/net/tun.c, set_offload).
OFFLOADS = {
    "tx-checksum-ip-generic": 0x01,
    "tx-tcp-segmentation": 0x02,
    "tx-tcp6-segmentation": 0x04,
    "tx-tcp-ecn-segmentation": 0x08,
    "tx-udp-segmentation": 0x60,
    "tx-udp_tnl-segmentation": 0x80,
    "tx-udp_tnl-csum-segmentation": 0x100,
}
UNKNOWN = -1  # offloads that the kernel doesn't show
IFF_VNET_HDR, IFF_MULTI_QUEUE, IFF_ATTACH_QUEUE, IFF_DETACH_QUEUE = 0x4000, 0x0100, 0x0200, 0x0400
# linux/sockios.h, linux/ethtool.h
SIOCETHTOOL, ETHTOOL_GSSET_INFO, ETHTOOL_GSTRINGS, ETHTOOL_GFEATURES = 0x8946, 0x37, 0x1B, 0x3A
ETH_SS_FEATURES, ETH_GSTRING_LEN = 4, 32
TUN = "/dev/net/tun"


@dataclass(frozen=True)
class TapQueue:
    """A queue as a descriptor of this process, with the header length (bytes) and offloads that old QEMU set.

    ``source`` is the descriptor's number in old QEMU; ``attached``: the queue gets packets.
    """

    source: int
    fd: int
    header: int
    offload: int
    attached: bool = True

    @classmethod
    def of(cls, source: int, fd: int) -> TapQueue | None:
        """The queue's settings now; None if it has no packet header, so that nothing can be lost."""
        name, flags = _interface(fd)
        if not flags & IFF_VNET_HDR:
            return None
        # A macvtap's offloads belong to the queue; its interface shows others (drivers/net/tap.c, set_offload).
        offload = _offload(name) if os.readlink(f"/proc/self/fd/{fd}") == TUN else UNKNOWN
        return cls(source, fd, _header(fd), offload, attached=not flags & IFF_DETACH_QUEUE)

    def keep_header(self) -> bool:
        """Restore old's header length if new has changed it; whether it had."""
        if _header(self.fd) == self.header:
            return False
        fcntl.ioctl(self.fd, TUNSETVNETHDRSZ, struct.pack("i", self.header))
        return True

    def attach(self, attached: bool) -> bool:
        """Attach or detach the queue; whether that is a change."""
        _, flags = _interface(self.fd)
        if not flags & IFF_MULTI_QUEUE or attached is not bool(flags & IFF_DETACH_QUEUE):
            return False
        wanted = IFF_ATTACH_QUEUE if attached else IFF_DETACH_QUEUE
        fcntl.ioctl(self.fd, TUNSETQUEUE, struct.pack("16xH22x", wanted))
        return True

    def restore(self) -> None:
        """Restore all settings of old."""
        self.attach(self.attached)
        self.keep_header()
        if self.offload != UNKNOWN:
            fcntl.ioctl(self.fd, TUNSETOFFLOAD, self.offload)


def _interface(fd: int) -> tuple[bytes, int]:
    """Its name and flags."""
    name, flags = struct.unpack("16sH22x", fcntl.ioctl(fd, TUNGETIFF, bytes(40)))
    return name, flags


def _header(fd: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(fd, TUNGETVNETHDRSZ, struct.pack("i", 0)))[0])


def _offload(interface: bytes) -> int:
    """TUN_F_* from the interface's features: the kernel has no call that reads them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        info = _ask(control, interface, struct.pack("IIQI", ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_FEATURES, 0))
        (count,) = struct.unpack("16xI", info)
        head, blocks = struct.pack("III", ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count), -(-count // 32)
        names = _ask(control, interface, head + bytes(count * ETH_GSTRING_LEN))[len(head) :]
        features = _ask(control, interface, struct.pack("II", ETHTOOL_GFEATURES, blocks) + bytes(blocks * 16))
    active = [struct.unpack_from("8xI", features, 8 + block * 16)[0] for block in range(blocks)]
    offloads = 0
    for number in range(count):
        name = names[number * ETH_GSTRING_LEN : (number + 1) * ETH_GSTRING_LEN].rstrip(b"\0").decode()
        if active[number // 32] >> number % 32 & 1:
            offloads |= OFFLOADS.get(name, 0)
    return offloads


def _ask(control: socket.socket, interface: bytes, request: bytes) -> bytes:
    """An ethtool command's answer, which replaces the request in its buffer."""
    value = array.array("B", request)
    address, _ = value.buffer_info()
    fcntl.ioctl(control, SIOCETHTOOL, struct.pack("16sQ16x", interface, address))
    return value.tobytes()
