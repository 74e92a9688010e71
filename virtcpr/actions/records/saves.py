"""The record of a guest whose state is in a file: written before what it announces, and kept across a host reboot.

One directory per guest, `/var/lib/virtcpr/saved/UUID`: `record.json` and the `state`.  Removed when the guest runs.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from virtcpr.actions.records import document
from virtcpr.domain.live import LiveDomain
from virtcpr.errors import HostError
from virtcpr.host.files import ram_files
from virtcpr.host.files.atomic import SUFFIX, make_private, read_text, replace_durably, write_private
from virtcpr.host.files.block_devices import Block
from virtcpr.host.files.ram_files import Identity
from virtcpr.host.qemu.stream import Digest
from virtcpr.host.system.paths import PATHS
from virtcpr.plan.reboot.recovery import Purpose, Stage

log = logging.getLogger(__name__)

SCHEMA = 1
DIRECTORY, RECORD, STATE = PATHS.state / "saved", "record.json", "state"  # known to hooks/libvirt-qemu, too
HOST = Path("/etc/machine-id")
BOOT = Path("/proc/sys/kernel/random/boot_id")
DISCARD = (
    "see what happened to it; 'virtcpr restore --discard {name}' gives it up, and the domain can be started afresh"
)


@dataclass(frozen=True)
class RamFile:
    """A RAM file that stays in place: its path in QEMU, the path that keeps it meanwhile, and its identity."""

    path: str
    kept: str
    identity: Identity

    @property
    def linked(self) -> bool:
        """Whether it is in libvirt's directory for the domain, which libvirt removes with the domain."""
        return self.path != self.kept


@dataclass(frozen=True)
class Saved:
    """Everything that a restore needs.

    ``xml``: live XML with secrets.  ``runs``: False if the user had suspended the guest.  ``wake``: virtcpr makes the
    guest suspend itself to RAM; ``asked``: it was asked to, and may do so any time; ``sleeps``: it had done so itself.
    ``images``: path → (size, mtime in ns) of the files that it writes to; ``devices``: the block devices.
    ``plain``: the live XML as it was, if ``xml`` is to make the domain ready for mode transfer: it is started from that
    if it can't be started so.
    """

    name: str
    uuid: str
    purpose: Purpose
    stage: Stage
    xml: str
    taints: tuple[str, ...]
    runs: bool
    wake: bool
    sleeps: bool
    order: int  # the domain's id: the order of starts
    qemu: str  # the version that wrote the state
    emulator: str | None  # loads the state instead of the XML's emulator
    status_path: str
    old_pid: int
    old_started: str
    host: str
    boot: str
    saved_at: str
    ignores_shared: bool
    return_path: bool = False  # before the save
    asked: bool = False
    ram: tuple[RamFile, ...] = ()
    state: Digest | None = None
    images: Mapping[str, tuple[int, int]] | None = None
    devices: Mapping[str, Block] = document.new({})
    new_pid: int | None = None
    new_started: str | None = None
    plain: str | None = document.new(None)

    @cached_property
    def live(self) -> LiveDomain:
        """``xml``, parsed.  Raises ParseError if it isn't a domain's XML."""
        return LiveDomain.of(self.xml)


def here() -> tuple[str, str]:
    """This host's machine id and boot id.  Raises HostError."""
    return read_text(HOST).strip(), read_text(BOOT).strip()


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Record:
    """The record file of one guest."""

    def __init__(self, saved: Saved, directory: Path = DIRECTORY) -> None:
        self.saved = saved
        self.directory = directory / saved.uuid

    @property
    def state_path(self) -> Path:
        return self.directory / STATE

    def write(self, stage: Stage, **changes: Any) -> None:
        """Enter a stage; durable if the guest must survive a host reboot.

        Raises HostError; the file then keeps its old content.  Where the guest's state is about to be all that there is
        of it (SAVED), also if the new one may not reach storage.
        """
        saved = replace(self.saved, stage=stage, **changes)
        made = _private(self.directory)
        text = _document(saved)
        path = self.directory / RECORD
        if saved.purpose is Purpose.SAVE:
            path.with_name(path.name + SUFFIX).unlink(missing_ok=True)
            replace_durably(path, text)
            for directory in (self.directory, *made):
                _sync(directory, required=stage is Stage.SAVED)  # old is ended next; before others nothing is lost
        else:
            write_private(path, text)
        self.saved = saved

    def remove(self) -> None:
        """The guest runs, or is given up: remove its record.  Raises HostError if the record stays.

        The state is removed first: if this is interrupted, the record can still be settled.
        """
        try:
            self.state_path.unlink(missing_ok=True)
            (self.directory / RECORD).unlink(missing_ok=True)
            shutil.rmtree(self.directory)
        except FileNotFoundError:
            return
        except OSError as error:
            raise HostError(
                f"{self.saved.name}: {self.directory} can't be removed: {error.strerror}", hint="remove it by hand"
            ) from error
        _sync(self.directory.parent, required=False)


def _private(directory: Path) -> tuple[Path, ...]:
    """Create it with its parents.  Returns the directories that have a new entry."""
    made = tuple(path.parent for path in (directory, *directory.parents) if not path.exists())
    try:
        make_private(directory)
        for path in (directory.parent, directory):
            os.chmod(path, 0o700)
    except OSError as error:
        raise HostError(f"{directory} can't be created: {error.strerror}") from error
    return made


def _sync(directory: Path, *, required: bool) -> None:
    """Sync a directory's entries to storage.  Raises HostError if that is ``required``."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if required and error.errno != errno.EINVAL:  # a file system that has no such thing (fsync(2))
            raise HostError(f"{directory} can't be written back to its storage: {error.strerror}") from error
        log.warning("%s: %s", directory, error.strerror)


def _document(saved: Saved) -> str:
    body = {
        **asdict(saved),
        "schema": SCHEMA,
        "stage": saved.stage.value,
        "purpose": saved.purpose.value,
    }
    return json.dumps({"sha256": _checksum(body), **body}, indent=1)


def _checksum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def waiting(directory: Path = DIRECTORY) -> list[str]:
    """UUIDs of all guests that have a record or a state.  Raises HostError if the directory can't be read."""
    return [path.name for path in _directories(directory) if not _empty(path)]


def sweep(directory: Path = DIRECTORY) -> None:
    """Remove empty directories, left if virtcpr was killed before it wrote a record or after it removed one."""
    for path in _directories(directory):
        if _empty(path):
            shutil.rmtree(path, ignore_errors=True)


def _directories(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HostError(f"{directory} can't be read: {error.strerror}", hint="run it with sudo") from error


def _empty(directory: Path) -> bool:
    """Raises HostError if that can't be seen (``lexists`` would say that there is nothing)."""
    try:
        return not {RECORD, STATE} & set(os.listdir(directory))
    except FileNotFoundError:
        return True
    except OSError as error:
        raise HostError(f"{directory} can't be read: {error.strerror}", hint="run it with sudo") from error


def readable(directory: Path = DIRECTORY) -> list[Record]:
    """Every valid record.  Raises HostError if the directory can't be read."""
    records = []
    for uuid in waiting(directory):
        with suppress(HostError):
            records.append(load(uuid, directory))
    return records


def broken(directory: Path = DIRECTORY) -> list[tuple[str, HostError]]:
    """The UUID and error of every invalid record.  Raises HostError if the directory can't be read."""
    errors = []
    for uuid in waiting(directory):
        try:
            load(uuid, directory)
        except HostError as error:
            errors.append((uuid, error))
    return errors


def load(uuid: str, directory: Path = DIRECTORY) -> Record:
    """The record of a guest.  Raises HostError if it can't be read, trusted or parsed."""
    path = directory / uuid / RECORD
    with document.reading("record", path, hint=DISCARD.format(name=uuid)):
        return Record(_saved(document.read(path), uuid), directory)


def discard(uuid: str, directory: Path = DIRECTORY) -> None:
    """Remove an invalid record, and the kept RAM files that it names: on a tmpfs they use memory.

    Raises OSError if the directory can't be removed.
    """
    path = directory / uuid / "record.json"
    with suppress(OSError, HostError, ValueError):
        document.trust(path, os.lstat(path))
        named = rf'"kept": ("[^"]*/virtcpr-{re.escape(uuid)})/[^"/]+"'
        for kept in set(re.findall(named, path.read_text(encoding="utf-8", errors="replace"))):
            ram_files.remove_directory(json.loads(f'{kept}"'))
    shutil.rmtree(directory / uuid)


def _saved(body: Any, uuid: str) -> Saved:
    document.expect_schema(body, SCHEMA)
    if body["sha256"] != _checksum({key: value for key, value in body.items() if key != "sha256"}):
        raise ValueError("its checksum is wrong: it was changed or damaged")
    document.expect_uuid(body, uuid)
    known = document.members(body, Saved)
    state, images = known["state"], known["images"]
    ram = tuple(RamFile(file["path"], file["kept"], Identity(**file["identity"])) for file in known["ram"])
    return Saved(
        **{
            **known,
            "purpose": Purpose(known["purpose"]),
            "stage": Stage(known["stage"]),
            "taints": tuple(known["taints"]),
            "ram": ram,
            "state": None if state is None else Digest(**state),
            "devices": {path: Block(**block) for path, block in known["devices"].items()},
            "images": None if images is None else {path: (int(a), int(b)) for path, (a, b) in images.items()},
        }
    )
