"""Greet a VNC display and its websocket as their clients do (RFC 6143, RFC 6455): `greet_vnc.py HOST PORT WEBSOCKET`.

Fails where one doesn't answer like a display.
"""

from __future__ import annotations

import socket
import sys

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: lab\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: binary\r\n\r\n"
)
host, plain, websocket = sys.argv[1:]
for port, hello, answer in ((plain, b"", b"RFB 003.008"), (websocket, UPGRADE, b"HTTP/1.1 101")):
    with socket.create_connection((host, int(port)), timeout=20) as peer:
        peer.sendall(hello)
        said = peer.recv(len(answer), socket.MSG_WAITALL)
        assert said == answer, (port, said)
