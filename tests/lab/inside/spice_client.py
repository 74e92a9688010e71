"""A SPICE client as far as the password (spice-protocol, spice/protocol.h), over TLS if it is told so.

`spice_client.py [tls:]PORT|PATH WORD…` prints a JSON object: for each password whether it lets the client in.  Fails
where nothing answers like a SPICE server.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import subprocess
import sys

HEADER, LINK = struct.Struct("<4sIII"), struct.Struct("<IBBIII")
MAIN_CHANNEL, KEY = 1, 162  # bytes of the server's key, DER
ENCRYPT = ["openssl", "pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-pkeyopt", "rsa_padding_mode:oaep"]


def connect(where: str) -> socket.socket:
    if where.startswith("/"):
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(20)
        peer.connect(where)
        return peer
    peer = socket.create_connection(("127.0.0.1", int(where.removeprefix("tls:"))), timeout=20)
    if not where.startswith("tls:"):
        return peer
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(peer)


def take(peer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = peer.recv(count - len(data))
        if not more:
            raise SystemExit("the server has closed the connection")
        data += more
    return data


def opens(where: str, word: str) -> bool:
    with connect(where) as peer:
        link = LINK.pack(0, MAIN_CHANNEL, 0, 0, 0, LINK.size)
        peer.sendall(HEADER.pack(b"REDQ", 2, 2, len(link)) + link)
        magic, _, _, size = HEADER.unpack(take(peer, HEADER.size))
        reply = take(peer, size)
        assert (magic, reply[:4]) == (b"REDQ", bytes(4)), (magic, reply[:4])
        with open("/tmp/spice.key", "wb") as key:
            key.write(reply[4 : 4 + KEY])
        ticket = word.encode() + b"\0"
        peer.sendall(
            subprocess.run([*ENCRYPT, "-inkey", key.name], input=ticket, capture_output=True, check=True).stdout
        )
        return take(peer, 4) == bytes(4)


if __name__ == "__main__":
    print(json.dumps({word: opens(sys.argv[1], word) for word in sys.argv[2:]}))
