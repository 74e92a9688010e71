"""A QEMU that isn't installed: its Debian packages, unpacked beside the installed ones."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from virtcpr.errors import HostError
from virtcpr.host.processes.run import run
from virtcpr.host.system.paths import PATHS

PLACE = PATHS.cache  # not /tmp: programs are run from it, by another user
PREFIX = "candidate-"
UNPACK_SECONDS = 120.0
# Where Debian's QEMU looks for firmware (its configure option --firmwarepath), in this order.
FIRMWARE = ("usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu")


class Unpacked:
    """Packages below a directory that everybody can read, and only root can change."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def has(self, path: str) -> bool:
        return (self.root / path.lstrip("/")).is_file()

    def emulator(self, path: str) -> str:
        """The path of a program that runs what the packages have at ``path``, with their modules and firmware.

        Firmware and libraries that they don't have are the installed ones.
        """
        program = self.root / path.lstrip("/")
        started = self.root / "virtcpr" / program.name
        started.parent.mkdir(exist_ok=True)
        started.parent.chmod(0o755)
        started.write_text(self._script(program), encoding="utf-8")
        started.chmod(0o755)
        return str(started)

    def _script(self, program: Path) -> str:
        settings = {"PATH": f"{self.root}/usr/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        if modules := sorted(self.root.glob("usr/lib/*/qemu")):
            settings["QEMU_MODULE_DIR"] = str(modules[0])
        if libraries := sorted({str(file.parent) for file in self.root.glob("usr/lib/*/*.so*")}):
            settings["LD_LIBRARY_PATH"] = ":".join(libraries)
        directories = [self.root / name for name in FIRMWARE] + [Path("/") / name for name in FIRMWARE]
        firmware = [f"-L {shlex.quote(str(path))}" for path in directories if path.is_dir()]
        exports = [f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()]
        return f'#!/bin/sh\n{"".join(exports)}exec {shlex.quote(str(program))} {" ".join(firmware)} "$@"\n'


@contextmanager
def unpack(packages: Iterable[Path]) -> Iterator[Unpacked]:
    """Unpack these files; they are removed afterwards.

    Raises HostError if one isn't a Debian package, or there is no room.
    """
    with ExitStack() as held:
        root = held.enter_context(directory())
        for package in packages:
            run(["dpkg-deb", "--extract", str(package), str(root)], timeout=UNPACK_SECONDS)
        _drop_privileges(root)
        yield Unpacked(root)


@contextmanager
def directory() -> Iterator[Path]:
    """A new one that everybody can read, removed afterwards, also if this process is killed: by the next one.

    Raises HostError if there is no room.
    """
    with ExitStack() as held:
        try:
            name = held.enter_context(_made())
        except OSError as error:
            raise HostError(f"nothing can be unpacked in {PLACE}: {error.strerror}") from error
        yield name


@contextmanager
def _made() -> Iterator[Path]:
    """While it is made nobody looks for what is left."""
    PLACE.mkdir(parents=True, exist_ok=True)
    PLACE.chmod(0o755)  # whatever the umask is
    with ExitStack() as held:
        with _in_use(PLACE, wait=True):
            _remove_left()
            name = held.enter_context(TemporaryDirectory(prefix=PREFIX, dir=PLACE, ignore_cleanup_errors=True))
            held.enter_context(_in_use(Path(name)))
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def _in_use(directory: Path, *, wait: bool = False) -> Iterator[None]:
    """Held as long as this process lives: nobody else removes it.  Raises OSError if it is in use, or waits."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(fd)


def _remove_left() -> None:
    """Remove what a killed virtcpr has left."""
    for directory in PLACE.glob(f"{PREFIX}*"):
        with suppress(OSError), _in_use(directory):
            shutil.rmtree(directory, ignore_errors=True)


def _drop_privileges(root: Path) -> None:
    """Take set-user-id and set-group-id from every file: they aren't installed, and anybody can run them."""
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                path.chmod(stat.S_IMODE(mode) & 0o777)
