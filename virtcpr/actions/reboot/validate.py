"""Check a saved guest before anything is started: it must be unchanged, and usable on this host now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from virtcpr.actions.reboot.guest import images
from virtcpr.actions.records import saves
from virtcpr.actions.records.saves import Record
from virtcpr.domain.facts import Emulator
from virtcpr.errors import HostError
from virtcpr.host.files import ram_files
from virtcpr.host.files.ram_files import Identity
from virtcpr.host.qemu.stream import Digest, digest, size
from virtcpr.plan.reboot_recovery import Purpose


class Unfit(HostError):
    """A saved guest can't be restored as things are: nothing was started, and its state waits."""


def look(record: Record, emulator: Emulator, *, read: bool = True) -> None:
    """Raise Unfit with all that is wrong with a saved guest; nothing was started then.

    Without ``read`` only the size of the state is looked at: its content is checked while it is loaded.
    """
    problems = list(_problems(record, emulator, read=read))
    if problems:
        name = record.saved.name
        raise Unfit(
            f"{name} can't be restored: {'; '.join(problems)}; its state waits in {record.directory}",
            hint=saves.DISCARD.format(name=name),
        )


def _problems(record: Record, emulator: Emulator, *, read: bool) -> Iterator[str]:
    saved = record.saved
    host, boot = saves.here()
    if saved.host != host:
        yield "it was saved on another host"
    if saved.purpose is Purpose.UPGRADE and saved.boot != boot:
        yield "the host was booted in the middle of its upgrade, before its RAM was on storage"
    yield from _emulator(record, emulator)
    if saved.state is None:
        yield "its state was never whole"
    else:
        yield from _state(record, saved.state, read=read)
    for file in saved.ram:
        yield from _ram(file.kept, file.identity)
    now = images(saved.xml)
    for path, then in (saved.images or {}).items():
        if path not in now:
            yield f"its disk {path} is gone"
        elif now[path] != then:
            yield f"its disk {path} was written to since it was saved"


def _state(record: Record, then: Digest, *, read: bool) -> Iterator[str]:
    try:
        now = size(record.state_path)
        if now < then.size:
            yield f"its state is cut off: {now} of {then.size} bytes"
        elif now > then.size or (read and digest(record.state_path) != then):
            yield "its state was changed since: the checksum differs"
    except HostError as error:
        yield error.message


def _emulator(record: Record, emulator: Emulator) -> Iterator[str]:
    machine = record.saved.live.machine
    if emulator.problem:
        yield f"the emulator {emulator.path} {emulator.problem}"
    elif machine and machine not in emulator.machines:
        yield f"the emulator {emulator.path} ({emulator.version}) has no machine type {machine}"


def _ram(path: str, then: Identity) -> Iterator[str]:
    if Path(path).is_char_device():
        return
    try:
        now = ram_files.identity(path)
    except HostError as error:
        yield error.message
        return
    if (now.inode, now.size) != (then.inode, then.size):
        yield f"its RAM file {path} isn't the same file as before"
    elif now.modified_ns != then.modified_ns:
        yield f"its RAM file {path} was written to since"
