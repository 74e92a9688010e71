"""The batch: what one command moves, in however many waves.  The history numbers them, as dnf's history does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache

from virtcpr.actions.records import history


@dataclass(frozen=True)
class Batch:
    """``undoes``: the number of the one that is taken back."""

    number: int
    undoes: int | None = None


_undoes: list[int] = []  # by the command that this process runs


def current() -> Batch:
    """That of this process.  Its number is a new one: the host's lock keeps others from taking it."""
    return replace(_own(), undoes=_undoes[-1] if _undoes else None)


@cache
def _own() -> Batch:
    numbers: list[int] = []
    with suppress(OSError):
        numbers = [entry.batch for entry in history.entries() if entry.batch is not None]
    return Batch(max(numbers, default=0) + 1)


@contextmanager
def undoing(number: int) -> Iterator[None]:
    """What is moved within takes back this batch."""
    _undoes.append(number)
    try:
        yield
    finally:
        _undoes.pop()
