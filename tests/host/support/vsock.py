"""Programs of the host that reach a guest by vsock; the guest repeats what it hears on port 7 (witness/echo.c)."""

from __future__ import annotations

from tests.lab.support import client
from tests.lab.support.client import run

# Says "connected", goes on until the connection ends, and says after how many rounds, and how.
TALK = r"""
import errno, socket, sys, time

def connected(cid, patience):
    # Linux gives a guest 2 s to answer, which is too little for one on an emulated host.
    deadline = time.monotonic() + patience
    while True:
        connection = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        try:
            connection.connect((cid, 7))
            connection.settimeout(patience)
            return connection
        except OSError as error:
            if error.errno != errno.ETIMEDOUT or time.monotonic() > deadline:
                sys.exit(print(f"not connected: {error.strerror}"))

with connected(int(sys.argv[1]), float(sys.argv[2])) as connection:
    rounds, most = 0, int(sys.argv[3])
    print("connected", flush=True)
    try:
        while rounds != most:
            said = rounds.to_bytes(8, "big") * 32
            connection.sendall(said)
            heard = b""
            while len(heard) < len(said):
                heard += connection.recv(len(said) - len(heard)) or sys.exit(f"{rounds}: closed")
            if heard != said:
                sys.exit(f"{rounds}: WRONG {heard} for {said}")
            rounds += 1
        print(f"{rounds}: well")
    except OSError as error:
        print(f"{rounds}: {error.strerror or error}")
"""
PATIENCE = 60  # seconds that a connection waits for an answer
ENDLESS = -1


def answers(cid: int, rounds: int = 20) -> str:
    """How a new connection went."""
    return run("python3", "-c", TALK, str(cid), str(PATIENCE), str(rounds), check=False).out


class Connection:
    """One that goes on beside the test."""

    def __init__(self, cid: int) -> None:
        self._process = client.beside("python3", "-c", TALK, str(cid), str(PATIENCE), str(ENDLESS))
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "connected\n", "the guest doesn't answer"

    def end(self) -> str:
        """How it has ended, which it has by now, or does once it hears nothing."""
        said, _ = self._process.communicate(timeout=2 * PATIENCE)
        return said.strip()
