"""The configuration's files, which are read only if nobody but root can have written them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from virtcpr.errors import HostError
from virtcpr.host.files.atomic import read_text

DIRECTORY = Path("/etc/virtcpr")


def documents(directory: Path = DIRECTORY) -> list[tuple[str, str]]:
    """Path and text of virtcpr.toml, then of conf.d/*.toml by name; missing files are left out.

    Raises HostError if a file can't be read, or if users other than root could have written it: it decides what is
    done to every guest.
    """
    contents = []
    for path in _paths(directory):
        for entry in (path, path.parent):
            refuse_untrusted(entry)
        contents.append((str(path), read_text(path)))
    return contents


def _paths(directory: Path) -> Iterator[Path]:
    first = directory / "virtcpr.toml"
    if os.path.lexists(first):
        yield first
    yield from sorted(path for path in directory.glob("conf.d/*.toml") if not path.name.startswith("."))


def refuse_untrusted(path: Path) -> None:
    """Raises HostError unless nobody but root, or this process's user, can have written it."""
    try:
        kind = path.stat()
    except OSError as error:
        raise HostError(f"{path} can't be read: {error.strerror}; nothing was done") from error
    if kind.st_uid not in (0, os.geteuid()) or kind.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise HostError(
            f"{path} can be written by others than root; nothing was done", hint=f"chown root {path}; chmod go-w {path}"
        )
