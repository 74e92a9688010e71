"""The process that connects an interface to the host's network, as libvirt starts it (src/qemu/qemu_passt.c,
qemuPasstStart).  It keeps what it knows of the guest's connections to itself: a second one knows none of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import PurePath

from virtcpr.domain.argv import CommandLine
from virtcpr.domain.helpers.helper import Helper
from virtcpr.errors import ParseError

WHAT = "passt"
SOCKET = ".socket"
# What mode transfer was run with: no port of the host's that is forwarded, which two processes can't both have.
FLAGS = frozenset({"--one-off"})
PATHS = frozenset({"--socket", "--pid"})


def _pid_file(socket: str) -> str:
    """libvirt's (qemuPasstCreatePidFilename)."""
    return f"{socket.removesuffix(SOCKET)}-passt.pid"


def sockets_of(line: CommandLine, present: Collection[str]) -> dict[str, str]:
    """Where QEMU finds each such process: socket → pid file.

    From its command line, and from which of the back ends there (their ids) it has still.
    """
    netdevs = (option.properties() for option in line.named("netdev"))
    streams = (netdev for netdev in netdevs if netdev.get("type") == "stream" and netdev.get("id") in present)
    addresses = (address for stream in streams if isinstance(address := stream.get("addr"), dict))
    return {path: _pid_file(path) for path in (str(a["path"]) for a in addresses if a.get("type") == "unix")}


def read(pid: int, started: str, argv: Sequence[str], socket: str) -> Helper:
    """The process with this command line.  Raises ParseError if it isn't the one that listens at ``socket``, or has an
    argument that nothing was run with."""
    found: dict[str, str] = {}
    words = iter(argv[1:])
    for word in words:
        if word in PATHS:
            found[word] = next(words, "")
        elif word not in FLAGS:
            raise ParseError(f"{WHAT} has the argument {word}")
    if PurePath(argv[0]).name != WHAT or found.keys() != PATHS or not set(argv) >= FLAGS:
        raise ParseError(f"{WHAT} wasn't started as libvirt starts it")
    pid_file = _pid_file(socket)
    if found != {"--socket": socket, "--pid": pid_file}:
        raise ParseError(f"process {pid} listens at {found['--socket']}")
    return Helper(WHAT, pid, started, tuple(argv), socket, pid_file, detaches=True)
