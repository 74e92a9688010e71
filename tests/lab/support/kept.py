"""What takes long to build is kept in a store, under a key of all that it is made from."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path


class LabError(Exception):
    """The lab, or the host, can't be built or run; the text says why."""


@contextlib.contextmanager
def locked(store: Path) -> Iterator[None]:
    store.mkdir(parents=True, exist_ok=True)
    with (store / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def key(start: str, base: Path, *sources: Path) -> str:
    """A name for ``start`` and these files and directories, all below ``base``.  Raises OSError if one is gone."""
    digest = hashlib.sha256(start.encode())
    for source in sources:
        for path in sorted(source.rglob("*") if source.is_dir() else [source]):
            if "__pycache__" not in path.parts and not path.is_dir():
                digest.update(str(path.relative_to(base)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def built(directory: Path, make: Callable[[Path], None]) -> Path:
    """The directory, filled by ``make`` if it isn't there.  A half-made one never counts; what is older is removed."""
    if directory.is_dir():
        return directory
    part = directory.with_suffix(".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    for leftover in part.parent.glob("*.part"):
        _remove_tree(leftover)
    part.mkdir()
    make(part)
    for older in part.parent.iterdir():
        if older != part:
            _remove_tree(older)
    part.rename(directory)
    return directory


def run_logged(command: Sequence[str], log: Path, what: str) -> None:
    """Run a command that builds something.  Raises LabError with the end of its output."""
    with log.open("wb") as out:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise LabError(f"{what} failed ({log} has it all):\n{tail}")


def _remove_tree(tree: Path) -> None:
    """Remove a root file system; never across a mount that an interrupted build left behind."""
    subprocess.run(["rm", "-rf", "--one-file-system", str(tree)], check=True)
