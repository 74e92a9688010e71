"""Records with fields for the journal, in its native protocol (systemd, JOURNAL_NATIVE_PROTOCOL)."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Mapping

log = logging.getLogger(__name__)
SOCKET = "/run/systemd/journal/socket"


def send(fields: Mapping[str, str]) -> None:
    """Send one record.  If there is no journal, or it refuses the record, this is only logged."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as journal:
            journal.sendto(record(fields), SOCKET)
    except OSError as error:
        log.debug("the journal can't be written: %s", error)


def record(fields: Mapping[str, str]) -> bytes:
    """The datagram: ``NAME=VALUE`` lines; a value of several lines follows its length instead."""
    return b"".join(_field(name, value.encode(errors="backslashreplace")) for name, value in fields.items())


def _field(name: str, value: bytes) -> bytes:
    if b"\n" in value:
        return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    return name.encode() + b"=" + value + b"\n"
