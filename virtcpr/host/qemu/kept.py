"""Builds of QEMU that guests were moved away from, each whole below a directory of its own: what `undo` runs.

QEMU takes modules and firmware from a directory ``qemu-bundle`` beside its program if there is one (QEMU util/cutils.c,
get_relocated_path()), so that a build needs no wrapper, no option and no environment there.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory

from virtcpr.errors import HostError
from virtcpr.host.files.atomic import make_private, write_public
from virtcpr.host.processes import libraries, proc
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.emulator import firmware_directories
from virtcpr.host.system.paths import PATHS

DIRECTORY = PATHS.state.with_name("virtcpr-builds")  # what is in PATHS.state is closed to QEMU's user
RECORD = "build.json"
BUNDLE = "qemu-bundle"
HALF = ".half-"
MODULES = ("usr/lib/*/qemu", "usr/lib64/qemu", "usr/lib/qemu")  # of Debian, Fedora, Arch
DELETED = " (deleted)"


@dataclass(frozen=True)
class Kept:
    """``build`` as of the process that ran it; ``kept_at`` is ISO 8601; ``program``: the path to run it by.

    ``origin``: where it was installed.
    """

    build: str
    version: str
    kept_at: str
    program: str
    origin: str = ""


def builds() -> list[Kept]:
    """What is kept, the newest last.  What can't be read, or others than root could have changed, is left out."""
    found = []
    for record in DIRECTORY.glob(f"*/{RECORD}"):
        with suppress(OSError, ValueError, TypeError, KeyError):
            document = json.loads(record.read_text(encoding="utf-8"))
            kept = Kept(**{field.name: str(document[field.name]) for field in fields(Kept)})
            kept = replace(kept, program=str(record.parent / os.path.basename(kept.program)))
            if all(_own(path) for path in (record.parent, Path(kept.program))):
                found.append(kept)
    return sorted(found, key=lambda kept: kept.kept_at)


def installed(path: str) -> str:
    """Where a build was installed, if this is the path of a kept one; else the path itself."""
    if not Path(path).is_relative_to(DIRECTORY):
        return path
    return next((kept.origin for kept in builds() if kept.program == path), path)


def keep(processes: Sequence[Process], build: str, version: str, package: str) -> None:
    """Keep what these QEMUs of one build run, unless it is kept already: its program, also if it was deleted meanwhile,
    and as much of its modules and firmware as is there; of deleted modules those that they have in memory.

    Raises HostError if that can't be written, or if others than root could have changed the program.
    """
    process = processes[0]
    try:
        if kept := next((kept for kept in builds() if kept.build == build), None):
            _left_again(kept)
            _keep_loaded(processes, Path(kept.program).parent)
            return
        _open_to_guests()
        with TemporaryDirectory(prefix=HALF, dir=DIRECTORY, ignore_cleanup_errors=True) as name:
            half = Path(name)
            half.chmod(0o755)
            origin = _copy(process, half, package)
            _keep_loaded(processes, half)
            kept = Kept(build, version, _now(), os.path.basename(origin), origin)
            write_public(half / RECORD, json.dumps(asdict(kept)))
            half.rename(DIRECTORY / build.replace(":", "-"))
    except OSError as error:
        raise HostError(f"QEMU {version} can't be kept in {DIRECTORY}: {error.strerror}") from error


def remove(kept: Kept) -> None:
    """Raises HostError if something is left."""
    try:
        shutil.rmtree(DIRECTORY / kept.build.replace(":", "-"))
    except OSError as error:
        raise HostError(f"QEMU {kept.version} can't be removed from {DIRECTORY}: {error.strerror}") from error


def remove_halves() -> None:
    """What a killed virtcpr has left."""
    for path in DIRECTORY.glob(f"{HALF}*"):
        shutil.rmtree(path, ignore_errors=True)


def size(kept: Kept) -> int:
    """In bytes, as far as it can be read."""
    files = (Path(at, name) for at, _, names in os.walk(DIRECTORY / kept.build.replace(":", "-")) for name in names)
    total = 0
    for path in files:
        with suppress(OSError):
            total += path.lstat().st_size
    return total


def running() -> frozenset[str]:
    """The programs that processes of this host run."""
    programs = set()
    for exe in Path("/proc").glob("[0-9]*/exe"):
        with suppress(OSError):
            programs.add(os.readlink(exe).removesuffix(DELETED))
    return frozenset(programs)


def _open_to_guests() -> None:
    """QEMU runs as a user of its own, who can reach these programs, and list nothing on the way."""
    make_private(DIRECTORY)
    if os.geteuid() == 0:
        DIRECTORY.chmod(0o711)


def _left_again(kept: Kept) -> None:
    """Its time begins anew."""
    program = Path(kept.program)
    kept = replace(kept, kept_at=_now(), program=program.name)
    write_public(program.parent / RECORD, json.dumps(asdict(kept)))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _copy(process: Process, to: Path, package: str) -> str:
    """Returns where the program was."""
    link = os.readlink(process.path / "exe")
    gone, program = link.endswith(DELETED), link.removesuffix(DELETED)
    place, bundle = to / os.path.basename(program), to / BUNDLE
    _directory(bundle, to)
    with (process.path / "exe").open("rb") as source, place.open("wb") as target:
        if not _trusted(os.fstat(source.fileno())):
            raise HostError(f"others than root can write to {program}: it isn't kept")
        shutil.copyfileobj(source, target, 1 << 20)
    place.chmod(0o755)
    for firmware in firmware_directories(str(place)):
        if firmware.startswith(f"{bundle}/"):
            _tree(Path(firmware.removeprefix(str(bundle))), Path(firmware), to)
    for directory in _module_directories():
        source_of_modules = proc.old_modules(package) if gone else directory
        if source_of_modules is not None:
            _tree(source_of_modules, bundle / str(directory).lstrip("/"), to)
    return program


def _module_directories() -> Iterator[Path]:
    for pattern in MODULES:
        yield from Path("/").glob(pattern)


def _keep_loaded(processes: Sequence[Process], to: Path) -> None:
    """The deleted modules that processes have in memory, which only root can read."""
    for process in processes:
        for path, mapped in libraries.deleted(process).items():
            target = to / BUNDLE / path.lstrip("/")
            if any(fnmatch(path, f"/{pattern}/*.so") for pattern in MODULES) and not target.exists():
                with suppress(PermissionError):
                    if _own(mapped):
                        _directory(target.parent, to)
                        _plain(str(mapped), str(target))


def _tree(source: Path, target: Path, root: Path) -> None:
    """Copy a directory, with what its links lead to: they may lead out of it."""
    if not source.is_dir():
        return
    _directory(target.parent, root)
    shutil.copytree(source, target, dirs_exist_ok=True, ignore_dangling_symlinks=True, copy_function=_plain)


def _plain(source: str, target: str) -> None:
    """A file that everybody can read and nobody change, whatever the umask is."""
    shutil.copyfile(source, target)
    os.chmod(target, 0o644)


def _directory(path: Path, root: Path) -> None:
    for part in reversed([path, *path.parents]):
        if part.is_relative_to(root) and not part.exists():
            part.mkdir()
            part.chmod(0o755)


def _own(path: Path) -> bool:
    return _trusted(path.stat())


def _trusted(kind: os.stat_result) -> bool:
    return kind.st_uid in (0, os.geteuid()) and not kind.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
