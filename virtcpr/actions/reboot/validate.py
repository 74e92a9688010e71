"""Check a saved guest before anything is started: it must be unchanged, and usable on this host now."""

from __future__ import annotations

import time
from collections.abc import Iterator
from shlex import quote

from virtcpr.actions.reboot import disks
from virtcpr.actions.records import saves
from virtcpr.actions.records.saves import Record
from virtcpr.domain.facts import Emulator
from virtcpr.errors import HostError
from virtcpr.host.files import ram_files
from virtcpr.host.files.ram_files import Identity
from virtcpr.host.qemu.stream import Digest, digest, size
from virtcpr.plan.reboot.recovery import Purpose

FRESH_SECONDS = 300.0  # since the state was written
UNCHANGED = (
    "see that nothing else has used its disks: another host, a cluster manager, a snapshot that was taken back; then "
    "'virtcpr restore --disks-unchanged {name}'"
)


class Unfit(HostError):
    """A saved guest can't be restored as things are: nothing was started, and its state waits."""


def look(record: Record, emulator: Emulator, *, read: bool = True, trusted: bool = False) -> None:
    """Raise Unfit with all that is wrong with a saved guest; nothing was started then.

    Without ``read`` only the size of the state is looked at: its content is checked while it is loaded.  ``trusted``:
    disks of which nobody can tell whether they were written to are taken for unchanged.
    """
    saved = record.saved
    problems = list(_problems(record, emulator, read=read))
    doubts = () if trusted else disks.untold(saved.xml, saved.images or {}, saved.devices)
    hint = (saves.DISCARD if problems else UNCHANGED).format(name=quote(saved.name))
    if doubts:
        problems.append(f"nobody can tell whether {', '.join(doubts)} was written to since it was saved")
    if problems:
        waits = f"its state waits in {record.directory}"
        raise Unfit(f"{saved.name} can't be restored: {'; '.join(problems)}; {waits}", hint=hint)


def fresh(record: Record) -> bool:
    """Whether an upgrade was interrupted just now: nothing else can have started the guest meanwhile."""
    try:
        age = time.time() - record.state_path.stat().st_mtime
    except OSError:
        return False
    return record.saved.purpose is Purpose.UPGRADE and 0 <= age < FRESH_SECONDS


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
    yield from disks.changes(saved.xml, saved.images or {}, saved.devices)


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
    try:
        now = ram_files.identity(path)
    except HostError as error:
        yield error.message
        return
    if then.sample != now.sample:
        yield f"its RAM on {path} was written to since"
    elif (now.inode, now.size) != (then.inode, then.size):
        yield f"its RAM file {path} isn't the same file as before"
    elif now.modified_ns != then.modified_ns:
        yield f"its RAM file {path} was written to since"
