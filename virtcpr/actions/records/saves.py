"""The record of a guest whose state is in a file: written before what it announces, and kept over a host's reboot.

A directory a guest, `/var/lib/virtcpr/saved/UUID`: `record.json` and the `state`.  It is gone when the guest runs.
"""

from __future__ import annotations

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
from virtcpr.host.files.ram_files import Identity
from virtcpr.host.qemu.stream import Digest
from virtcpr.host.system.paths import PATHS
from virtcpr.plan.reboot_recovery import Purpose, Stage

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
    """A RAM file that stays in place: its path in QEMU, where it is kept meanwhile, and what it was like."""

    path: str
    kept: str
    identity: Identity

    @property
    def linked(self) -> bool:
        """Whether it lies in libvirt's directory of the domain, which goes with the domain."""
        return self.path != self.kept


@dataclass(frozen=True)
class Saved:
    """All that restoring needs to know.

    ``xml`` is live XML, with secrets; ``runs``: False where the user had suspended the guest; ``wake``: virtcpr has it
    suspend itself to RAM, ``asked``: it was told to, and may be about to; ``sleeps``: it had done so by itself.
    ``images``: path → (size, mtime in ns) of what it writes to.
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
    order: int  # the domain's id: who was started earlier
    qemu: str  # the version that wrote the state
    emulator: str | None  # another than the XML's, which is to load it
    status_path: str
    old_pid: int
    old_started: str
    host: str
    boot: str
    saved_at: str
    ignores_shared: bool
    return_path: bool = False  # as it was before
    asked: bool = False
    ram: tuple[RamFile, ...] = ()
    state: Digest | None = None
    images: Mapping[str, tuple[int, int]] | None = None
    new_pid: int | None = None
    new_started: str | None = None

    @cached_property
    def live(self) -> LiveDomain:
        """``xml``, read.  Raises ParseError where it isn't a domain's."""
        return LiveDomain.of(self.xml)


def here() -> tuple[str, str]:
    """This host's id, and its boot's.  Raises HostError."""
    return read_text(HOST).strip(), read_text(BOOT).strip()


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Record:
    """The record of one guest, in its file."""

    def __init__(self, saved: Saved, directory: Path = DIRECTORY) -> None:
        self.saved = saved
        self.directory = directory / saved.uuid

    @property
    def state_path(self) -> Path:
        return self.directory / STATE

    def write(self, stage: Stage, **changes: Any) -> None:
        """Enter a stage: durable where the guest is to outlive the host's reboot.

        Raises HostError; what the file said before is there then.
        """
        saved = replace(self.saved, stage=stage, **changes)
        made = _private(self.directory)
        text = _document(saved)
        path = self.directory / RECORD
        if saved.purpose is Purpose.SAVE:
            path.with_name(path.name + SUFFIX).unlink(missing_ok=True)
            replace_durably(path, text)
            for directory in (self.directory, *made):
                _sync(directory)
        else:
            write_private(path, text)
        self.saved = saved

    def remove(self) -> None:
        """The guest runs, or is given up.  Raises HostError where the record stays.

        It goes last: whoever is interrupted here leaves something that can be settled.
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
        _sync(self.directory.parent)


def _private(directory: Path) -> tuple[Path, ...]:
    """Make it, and those above; the directories that have a new name in them."""
    made = tuple(path.parent for path in (directory, *directory.parents) if not path.exists())
    try:
        make_private(directory)
        for path in (directory.parent, directory):
            os.chmod(path, 0o700)
    except OSError as error:
        raise HostError(f"{directory} can't be made: {error.strerror}") from error
    return made


def _sync(directory: Path) -> None:
    """Have names in a directory on its storage."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
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
    """UUIDs of all guests that have a record, or a state.  Raises HostError where that can't be looked up."""
    return [path.name for path in _directories(directory) if not _empty(path)]


def sweep(directory: Path = DIRECTORY) -> None:
    """Remove what is left where somebody was killed before the first record was there, or after the last was gone."""
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
    return not any(os.path.lexists(directory / name) for name in (RECORD, STATE))


def readable(directory: Path = DIRECTORY) -> list[Record]:
    """Every record that can be understood.  Raises HostError where it can't be looked up."""
    records = []
    for uuid in waiting(directory):
        with suppress(HostError):
            records.append(load(uuid, directory))
    return records


def broken(directory: Path = DIRECTORY) -> list[tuple[str, HostError]]:
    """Those that can't, by UUID.  Raises HostError where it can't be looked up."""
    errors = []
    for uuid in waiting(directory):
        try:
            load(uuid, directory)
        except HostError as error:
            errors.append((uuid, error))
    return errors


def load(uuid: str, directory: Path = DIRECTORY) -> Record:
    """The record of a guest.  Raises HostError where it can't be read, trusted, or understood."""
    path = directory / uuid / RECORD
    with document.reading("record", path, hint=DISCARD.format(name=uuid)):
        return Record(_saved(document.read(path), uuid), directory)


def discard(uuid: str, directory: Path = DIRECTORY) -> None:
    """Give up what can't be understood, and the RAM that it names as kept: on a tmpfs that is memory.

    Raises OSError where it can't be removed.
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
        raise ValueError("its checksum is wrong: it was changed, or damaged")
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
            "images": None if images is None else {path: (int(a), int(b)) for path, (a, b) in images.items()},
        }
    )
