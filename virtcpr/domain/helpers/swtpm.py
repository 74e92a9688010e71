"""The process that emulates a domain's TPM, as libvirt starts it (src/qemu/qemu_tpm.c, qemuTPMEmulatorBuildCommand)."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from virtcpr.domain.argv import CommandLine
from virtcpr.domain.helpers.helper import Helper
from virtcpr.errors import ParseError

WHAT = "swtpm"
SOCKET = ".sock"
# What mode transfer was run with: argument → its value.
ARGUMENTS = {
    "--ctrl": re.compile(rf"type=unixio,path=(?P<socket>/[^,]+{re.escape(SOCKET)}),mode=0600"),
    "--tpmstate": re.compile(r"dir=(?P<state>/[^,]+),mode=0600"),
    "--log": re.compile(r"file=[^,]+"),
}
FLAGS = frozenset({"--tpm2", "--terminate"})


def pid_file(socket: str) -> str:
    """libvirt's (qemuTPMEmulatorPidFileBuildPath)."""
    return f"{socket.removesuffix(SOCKET)}.pid"


def sockets_of(line: CommandLine, chardevs: Collection[str]) -> dict[str, str]:
    """Where QEMU finds the process of its TPM: socket → pid file; at most one.

    From its command line, and from which of the ``chardevs`` there it has still.
    """
    used = {str(o.properties().get("chardev")) for o in line.named("tpmdev")} & set(chardevs)
    return {path: pid_file(path) for path in line.chardev_paths(used).values()}


def read(pid: int, started: str, argv: Sequence[str], socket: str) -> Helper:
    """The process with this command line.  Raises ParseError if it isn't the one that listens at ``socket``, or has an
    argument that nothing was run with."""
    found: dict[str, str] = {}
    words = iter(argv[2:])
    for word in words:
        if word in FLAGS:
            continue
        value = next(words, "")
        matched = ARGUMENTS[word].fullmatch(value) if word in ARGUMENTS else None
        if matched is None:
            raise ParseError(f"{WHAT} has the argument {word}{f' {value}' if word in ARGUMENTS else ''}")
        found |= matched.groupdict()
    if argv[1:2] != ("socket",) or found.keys() != {"socket", "state"}:
        raise ParseError(f"{WHAT} wasn't started as libvirt starts it")
    if found["socket"] != socket:
        raise ParseError(f"process {pid} listens at {found['socket']}")
    # Locked as long as a process may write the state (swtpm, src/swtpm/swtpm_nvstore_dir.c).
    lock = f"{found['state']}/.lock"
    return Helper(WHAT, pid, started, tuple(argv), socket, pid_file(socket), lock, writes=True)
