"""What is saved must be what was saved, and of use here and now: looked at before anything is started."""

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
from virtcpr.host.qemu.stream import digest
from virtcpr.plan.reboot_recovery import Purpose


def look(one: Record, emulator: Emulator, *, read: bool = True) -> None:
    """Raises HostError that says what of a saved guest isn't as it must be; nothing was started then.

    Without ``read`` the state's content isn't read: it was written in this very run, and is read as it is loaded.
    """
    problems = list(_problems(one, emulator, read=read))
    if problems:
        name = one.saved.name
        raise HostError(
            f"{name} can't be restored: {'; '.join(problems)}; its state waits in {one.directory}",
            hint=saves.DISCARD.format(name=name),
        )


def _problems(one: Record, emulator: Emulator, *, read: bool) -> Iterator[str]:
    saved = one.saved
    host, boot = saves.here()
    if saved.host != host:
        yield "it was saved on another host"
    if saved.purpose is Purpose.UPGRADE and saved.boot != boot:
        yield "the host was booted in the middle of its upgrade, before its RAM was on storage"
    yield from _emulator(one, emulator)
    if saved.state is None:
        yield "its state was never whole"
    elif read:
        try:
            found = digest(one.state_path)
        except HostError as error:
            yield error.message
        else:
            if found.size < saved.state.size:
                yield f"its state is cut off: {found.size} of {saved.state.size} bytes"
            elif found != saved.state:
                yield "its state was changed since: the checksum is another"
    for file in saved.ram:
        yield from _ram(file.kept, file.identity)
    now = images(saved.xml)
    for path, then in (saved.images or {}).items():
        if path not in now:
            yield f"its disk {path} is gone"
        elif now[path] != then:
            yield f"its disk {path} was written to since it was saved"


def _emulator(one: Record, emulator: Emulator) -> Iterator[str]:
    machine = one.saved.live.machine
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
        yield f"its RAM file {path} isn't the one that it had"
    elif now.modified_ns != then.modified_ns:
        yield f"its RAM file {path} was written to since"
