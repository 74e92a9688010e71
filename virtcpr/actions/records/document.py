"""virtcpr's own documents, one per domain.  They say which process to kill, so only files of root are trusted."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from virtcpr.errors import HostError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

NEW = "new since 0.1.0"


def uuids(directory: Path) -> list[str]:
    """The domains that have a document `UUID.json` here.  Raises HostError if the directory can't be read."""
    try:
        return sorted(name.removesuffix(".json") for name in os.listdir(directory) if name.endswith(".json"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HostError(f"{directory} can't be read: {error.strerror}", hint="run it with sudo") from error


@contextmanager
def reading(what: str, path: Path, *, hint: str | None = None) -> Iterator[None]:
    """Turn any error in reading or decoding a document into a HostError that names the document."""
    try:
        yield
    except OSError as error:
        raise HostError(f"the {what} {path} can't be read: {error.strerror}", hint=hint) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HostError(f"the {what} {path} can't be understood: {error}", hint=hint) from error


def read(path: Path) -> Any:
    """The JSON of a file that only root can access; a symlink isn't followed.

    Raises OSError if it can't be read, HostError if it isn't trusted, ValueError if it isn't JSON.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(fd, encoding="utf-8") as file:
        trust(path, os.fstat(file.fileno()))
        return json.load(file)


def trust(path: Path, status: os.stat_result) -> None:
    """Raises HostError unless only root (in a session: the user) can access this regular file or directory."""
    hint = "check who created it, then remove it"
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise HostError(f"{path} isn't trusted: it is neither a regular file nor a directory", hint=hint)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise HostError(f"{path} isn't trusted: another user owns it, or can access it", hint=hint)


def expect_schema(body: Any, schema: int) -> None:
    """Raises ValueError for a document of another version of virtcpr."""
    if body["schema"] != schema:
        raise ValueError(f"schema {body['schema']}, this virtcpr knows {schema}")


def expect_uuid(body: Any, uuid: str) -> None:
    """Raises ValueError if the document's domain isn't the one in its file name."""
    if body["uuid"] != uuid:
        raise ValueError(f"it belongs to domain {body['uuid']}")


def members(body: Any, kind: type[DataclassInstance]) -> dict[str, Any]:
    """A document's value for each field of a dataclass.

    A field that is ``new`` since version 0.1.0 has its default if an earlier version has written the document.  Raises
    KeyError if any other is missing: nothing is settled by half a document.
    """
    return {
        one.name: body.get(one.name, one.metadata.get(NEW)) if NEW in one.metadata else body[one.name]
        for one in fields(kind)
    }


def new(default: Any) -> Any:
    """A field of a document that version 0.1.0 doesn't write, with what its absence means; a value that isn't
    changed."""
    return field(default_factory=lambda: default, metadata={NEW: default})
