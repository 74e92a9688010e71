"""Documents of ours, one a domain: they say whom to kill and whose guest is where, so only root's own are believed."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from virtcpr.errors import HostError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def uuids(directory: Path) -> list[str]:
    """The domains that have a document `UUID.json` here.  Raises HostError where that can't be looked up."""
    try:
        return sorted(name.removesuffix(".json") for name in os.listdir(directory) if name.endswith(".json"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HostError(f"{directory} can't be read: {error.strerror}", hint="run it with sudo") from error


@contextmanager
def reading(what: str, path: Path, *, hint: str | None = None) -> Iterator[None]:
    """Whatever is wrong with a document while it is read and decoded becomes a HostError that names it."""
    try:
        yield
    except OSError as error:
        raise HostError(f"the {what} {path} can't be read: {error.strerror}", hint=hint) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HostError(f"the {what} {path} can't be understood: {error}", hint=hint) from error


def read(path: Path) -> Any:
    """The JSON of a file that is root's alone; a symlink isn't followed.

    Raises OSError where it can't be read, HostError where it isn't trusted, ValueError where it is no JSON.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(fd, encoding="utf-8") as file:
        trust(path, os.fstat(file.fileno()))
        return json.load(file)


def trust(path: Path, status: os.stat_result) -> None:
    """Raises HostError unless it is a file or directory of its own, and root's alone (a user's, in a session)."""
    hint = "see who made it, then remove it"
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise HostError(f"{path} is neither a file nor a directory, and not trusted", hint=hint)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise HostError(f"{path} isn't root's alone, and not trusted", hint=hint)


def expect_schema(body: Any, schema: int) -> None:
    """Raises ValueError for a document of another version of virtcpr."""
    if body["schema"] != schema:
        raise ValueError(f"schema {body['schema']}, this virtcpr knows {schema}")


def expect_uuid(body: Any, uuid: str) -> None:
    """Raises ValueError for a document of another domain than its file's name says."""
    if body["uuid"] != uuid:
        raise ValueError(f"it is of domain {body['uuid']}")


def members(body: Any, kind: type[DataclassInstance]) -> dict[str, Any]:
    """What a document has for each field of a dataclass.  Raises KeyError where one is missing."""
    return {field.name: body[field.name] for field in fields(kind)}
