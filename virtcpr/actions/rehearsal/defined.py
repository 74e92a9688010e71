"""A domain that doesn't run, for a rehearsal: its twin is started as libvirt would start it now."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from virtcpr.domain import native
from virtcpr.domain.argv import CommandLine
from virtcpr.domain.facts import BlockNode, DomainFacts, Emulator
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.processes.proc import User
from virtcpr.host.system import users


@dataclass(frozen=True)
class Defined:
    """The installed emulator, the command line that libvirt would give it, its images, and QEMU's user."""

    emulator: Emulator
    line: CommandLine
    images: tuple[BlockNode, ...]
    user: User


def look(connection: Connection, facts: DomainFacts) -> Defined:
    """Ask libvirt; nothing is started.

    Raises HostError if libvirt couldn't start it, ParseError for a command line that virtcpr can't read.
    """
    line = native.command_line(connection.command_line(facts.xml))
    found = native.owner(connection.capabilities(), facts.live.kind)
    user = users.of(*found) if found else User(os.geteuid(), os.getegid())
    return Defined(facts.emulator, line, tuple(native.images(line, _size)), user)


def _size(path: str) -> int | None:
    with suppress(OSError):
        return Path(path).stat().st_size if path else None
    return None
