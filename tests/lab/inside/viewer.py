"""A VNC viewer as far as the password (RFC 6143), over TLS where the display has it (VeNCrypt, X509Vnc).

`viewer.py PORT|PATH WORD…` prints a JSON object: what the display offers, its certificate's digest, and for each
password whether it lets the viewer in.
"""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import subprocess
import sys

VNC, VENCRYPT, X509_VNC = 2, 19, 261
DES = ["openssl", "enc", "-des-ecb", "-provider", "legacy", "-provider", "default", "-nopad"]


def connect(where: str) -> socket.socket:
    if where.isdecimal():
        return socket.create_connection(("127.0.0.1", int(where)), timeout=20)
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(20)
    peer.connect(where)
    return peer


def take(peer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = peer.recv(count - len(data))
        if not more:
            raise SystemExit("the display hung up")
        data += more
    return data


def secure(peer: socket.socket) -> socket.socket:
    """VeNCrypt 0.2, and of its kinds the one that asks for a password behind a certificate."""
    take(peer, 2)
    peer.sendall(b"\0\2")
    take(peer, 1)
    kinds = [int.from_bytes(take(peer, 4), "big") for _ in range(take(peer, 1)[0])]
    if X509_VNC not in kinds:
        raise SystemExit(f"the display offers {kinds}")
    peer.sendall(X509_VNC.to_bytes(4, "big"))
    take(peer, 1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(peer)


def enter(where: str, word: str) -> tuple[list[int], str, bool]:
    peer = connect(where)
    take(peer, 12)
    peer.sendall(b"RFB 003.008\n")
    offered = list(take(peer, take(peer, 1)[0]))
    certificate = ""
    if VENCRYPT in offered:
        peer.sendall(bytes([VENCRYPT]))
        peer = secure(peer)
        certificate = hashlib.sha256(peer.getpeercert(binary_form=True) or b"").hexdigest()  # type: ignore[attr-defined]
    else:
        peer.sendall(bytes([VNC]))
    challenge = take(peer, 16)
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in word.encode()[:8].ljust(8, b"\0"))
    peer.sendall(subprocess.run([*DES, "-K", key.hex()], input=challenge, stdout=subprocess.PIPE, check=True).stdout)
    return offered, certificate, take(peer, 4) == bytes(4)


tried = {word: enter(sys.argv[1], word) for word in sys.argv[2:]}
offered, certificate, _ = next(iter(tried.values()))
opened = {word: let_in for word, (_, _, let_in) in tried.items()}
print(json.dumps({"offered": offered, "certificate": certificate, "opened": opened}))
