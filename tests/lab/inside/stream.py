"""Run in the lab: a steady TCP stream to a guest's echo and back, for as long as standard input is open.

usage: python3 stream.py IP

Prints one JSON object: how many bytes came back, and what was wrong, if anything.  Every byte must come back, in order.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import sys

CHUNK = 8192
EVERY_SECONDS = 0.02
BEHIND = 1 << 20  # bytes under way; a guest that stands still gets no more


def main(ip: str) -> None:
    sent = received = 0
    wrong = ""
    with socket.create_connection((ip, 7), timeout=30) as stream:
        stream.setblocking(False)
        over = False
        while not wrong and not (over and received == sent):
            ready, _, _ = select.select([stream, *([] if over else [sys.stdin])], [], [], EVERY_SECONDS)
            over = over or sys.stdin in ready
            if stream in ready:
                data = stream.recv(1 << 16)
                expected = pattern(received, len(data))
                wrong = "closed by the guest" if not data else "" if data == expected else f"wrong after {received}"
                received += len(data)
            elif not over and sent - received < BEHIND:
                with contextlib.suppress(BlockingIOError):  # a guest that is slow
                    sent += stream.send(pattern(sent, CHUNK))
    print(json.dumps({"bytes": received, "wrong": wrong}))


def pattern(start: int, size: int) -> bytes:
    """Bytes of an endless sequence that doesn't repeat within what can be under way."""
    first, last = start // 4, (start + size + 3) // 4
    return b"".join(n.to_bytes(4, "big") for n in range(first, last))[start % 4 : start % 4 + size]


if __name__ == "__main__":
    main(sys.argv[1])
