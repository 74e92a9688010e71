"""The batch: what one command moves, in however many waves.  The history numbers them, as dnf's history does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache

from virtcpr.actions.records import history


@dataclass(frozen=True)
class Batch:
    """``undoes``: the number of the one that is taken back; ``why``: for what reason, by UUID."""

    number: int
    undoes: int | None = None
    why: Mapping[str, str] = field(default_factory=dict)


_undoing: list[tuple[int, Mapping[str, str]]] = []  # by the command that this process runs


def current() -> Batch:
    """That of this process.  Its number is a new one: the host's lock keeps others from taking it."""
    if not _undoing:
        return _own()
    undoes, why = _undoing[-1]
    return replace(_own(), undoes=undoes, why=why)


@cache
def _own() -> Batch:
    numbers: list[int] = []
    with suppress(OSError):
        numbers = [entry.batch for entry in history.entries() if entry.batch is not None]
    return Batch(max(numbers, default=0) + 1)


@contextmanager
def undoing(number: int, why: Mapping[str, str] | None = None) -> Iterator[None]:
    """What is moved within takes back this batch."""
    _undoing.append((number, why or {}))
    try:
        yield
    finally:
        _undoing.pop()
