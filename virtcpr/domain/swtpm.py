"""The process that emulates a domain's TPM, as libvirt starts it (src/qemu/qemu_tpm.c, qemuTPMEmulatorBuildCommand)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from virtcpr.domain.argv import CommandLine
from virtcpr.domain.sockets import beside
from virtcpr.errors import ParseError

SOCKET = ".sock"
# What mode transfer was run with: argument → its value.
ARGUMENTS = {
    "--ctrl": re.compile(rf"type=unixio,path=(?P<socket>/[^,]+{re.escape(SOCKET)}),mode=0600"),
    "--tpmstate": re.compile(r"dir=(?P<state>/[^,]+),mode=0600"),
    "--log": re.compile(r"file=[^,]+"),
}
FLAGS = frozenset({"--tpm2", "--terminate"})


@dataclass(frozen=True)
class Swtpm:
    """``started`` distinguishes it from a later process with its pid.  ``socket`` is where QEMU finds it, ``state`` the
    directory with what the TPM stores.  ``problem``: why no second one can be started."""

    pid: int
    started: str
    argv: tuple[str, ...]
    socket: str
    state: str
    problem: str = ""

    @property
    def pid_file(self) -> str:
        """libvirt's (qemuTPMEmulatorPidFileBuildPath)."""
        return pid_file(self.socket)

    @property
    def lock(self) -> str:
        """Locked as long as a process may write the state (swtpm, src/swtpm/swtpm_nvstore_dir.c)."""
        return f"{self.state}/.lock"

    @property
    def set_aside(self) -> tuple[str, ...]:
        """The first process's files that are at ``beside`` their paths while there is a second."""
        return self.socket, self.lock

    @property
    def leftovers(self) -> tuple[str, ...]:
        """What stands beside the process's files while there are two."""
        return tuple(map(beside, (*self.set_aside, self.pid_file)))


def pid_file(socket: str) -> str:
    return f"{socket.removesuffix(SOCKET)}.pid"


def socket_of(line: CommandLine) -> str | None:
    """Where QEMU finds the process of its TPM, from its command line; None if it has no emulated TPM."""
    chardevs = {str(o.properties().get("chardev")) for o in line.named("tpmdev") if "chardev" in o.properties()}
    for option in line.named("chardev"):
        properties = option.properties()
        if str(properties.get("id")) in chardevs and properties.get("path"):
            return str(properties["path"])
    return None


def read(pid: int, started: str, argv: Sequence[str]) -> Swtpm:
    """The process with this command line.  Raises ParseError if it has an argument that nothing was run with."""
    found: dict[str, str] = {}
    words = iter(argv[2:])
    for word in words:
        if word in FLAGS:
            continue
        value = next(words, "")
        matched = ARGUMENTS[word].fullmatch(value) if word in ARGUMENTS else None
        if matched is None:
            raise ParseError(f"swtpm has the argument {word}{f' {value}' if word in ARGUMENTS else ''}")
        found |= matched.groupdict()
    if argv[1:2] != ("socket",) or found.keys() != {"socket", "state"}:
        raise ParseError("swtpm wasn't started as libvirt starts it")
    return Swtpm(pid, started, tuple(argv), found["socket"], found["state"])
