"""The process that shares a directory with a domain, as libvirt starts it (src/qemu/qemu_virtiofs.c,
qemuVirtioFSBuildCommandLine)."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import PurePath

from virtcpr.domain.argv import CommandLine
from virtcpr.domain.helpers.helper import Helper
from virtcpr.errors import ParseError

WHAT = "virtiofsd"
PID_FILES = "/run/libvirt/qemu"
# What mode transfer was run with: argument → its value; None: it has none.
ARGUMENTS = {
    "--fd": re.compile(r"\d+"),
    "--shared-dir": re.compile(r"/.*"),
    "--xattr": None,
    "--cache": re.compile("always"),
}
# QEMU says this (hw/virtio/vhost-user-fs.c vuf_load_state), and the process itself why.
_REFUSED = "Error loading back-end state of virtio-user-fs device"


def has_refused(words: str) -> bool:
    """Whether QEMU's ``words`` say that the process didn't take over what the guest knows of the directory.

    It can't find a file that the guest deleted: while the guest has it open, and for some milliseconds after
    (virtiofsd src/passthrough/device_state/serialization.rs).
    """
    return _REFUSED in words


def sockets_of(line: CommandLine, chardevs: Collection[str]) -> dict[str, str]:
    """Where QEMU finds each such process: socket → pid file (qemuVirtioFSCreatePidFilename).

    From its command line, and from which of the ``chardevs`` there it has still.
    """
    devices = (option.properties() for option in line.named("device"))
    used = {str(d.get("chardev")) for d in devices if str(d.get("driver", d.get(""))).startswith("vhost-user-fs")}
    return {path: _pid_file(PurePath(path)) for path in line.chardev_paths(used & set(chardevs)).values()}


def _pid_file(socket: PurePath) -> str:
    return f"{PID_FILES}/{socket.parent.name.removeprefix('domain-')}-{socket.stem}.pid"


def read(pid: int, started: str, argv: Sequence[str], socket: str) -> Helper:
    """The process with this command line, which doesn't name the socket.  Raises ParseError if it has an argument that
    nothing was run with."""
    found: dict[str, str] = {}
    words = iter([part for word in argv[1:] for part in _split(word)])
    for word in words:
        if word not in ARGUMENTS:
            raise ParseError(f"{WHAT} has the argument {word}")
        pattern = ARGUMENTS[word]
        found[word] = "" if pattern is None else next(words, "")
        if pattern and not pattern.fullmatch(found[word]):
            raise ParseError(f"{WHAT} has the argument {word} {found[word]}")
    if not {"--fd", "--shared-dir"} <= found.keys():
        raise ParseError(f"{WHAT} wasn't started as libvirt starts it")
    listener = int(found["--fd"])
    pid_file = _pid_file(PurePath(socket))
    return Helper(WHAT, pid, started, tuple(argv), socket, pid_file, listener=listener, sandbox=True)


def _split(word: str) -> list[str]:
    name, equals, value = word.partition("=")
    return [name, value] if equals and name.startswith("--") else [word]
