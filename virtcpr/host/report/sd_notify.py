"""Tell the service manager that a service is ready (sd_notify(3))."""

from __future__ import annotations

import os
import socket


def ready() -> None:
    """Does nothing if NOTIFY_SOCKET isn't set."""
    address = os.environ.pop("NOTIFY_SOCKET", None)
    if address is None:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
        notify.connect("\0" + address[1:] if address.startswith("@") else address)
        notify.send(b"READY=1")
