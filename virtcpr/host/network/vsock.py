"""The context ID (CID) under which vsock reaches a guest: taken from one descriptor of the device, so that another may
have it, and given back."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

DEVICE = "/dev/vhost-vsock"
SET_GUEST_CID = 0x4008AF60  # linux/vhost.h: VHOST_VSOCK_SET_GUEST_CID
HIGHEST = 0xFFFFFFFE  # the one above means "any"


def take(descriptor: int) -> None:
    """Free the CID of a descriptor's guest, and end the host's connections to it.  Raises OSError.

    The descriptor gets one that nobody uses, as it can't be without (vhost_vsock_set_cid() in drivers/vhost/vsock.c).
    What its guest sends is dropped from then on, since it bears the old CID (vhost_vsock_handle_tx_kick()).  vsock
    sends nothing again: a connection that went on would lack it, and nobody would know.
    """
    cid = HIGHEST
    while not _given(descriptor, cid):
        cid -= 1
    # Whenever a descriptor of the device is closed, Linux ends the connections to CIDs that nobody has
    # (vhost_vsock_dev_release(), vhost_vsock_reset_orphans()).
    os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))


def _given(descriptor: int, cid: int) -> bool:
    """Whether nobody else has it."""
    try:
        give(descriptor, cid)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True


def give(descriptor: int, cid: int) -> None:
    """Have a descriptor's guest reached under this CID; no change if it is already.

    Raises OSError: EADDRINUSE if another descriptor has it.
    """
    fcntl.ioctl(descriptor, SET_GUEST_CID, struct.pack("Q", cid))
