"""The order in which the domains of an upgrade are moved, and when the rest is left alone.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from virtcpr.model import Result, Rollout

Item = TypeVar("Item")
DONE = (Result.UPGRADED, Result.CURRENT)
TOGETHER = Rollout(stop_after=None)


@dataclass(frozen=True)
class Wave(Generic[Item]):
    """What is moved together."""

    items: tuple[Item, ...]
    canary: bool = False


def waves(items: Sequence[Item], rollout: Rollout, known_as: Callable[[Item], Iterable[str]]) -> list[Wave[Item]]:
    """Canaries first, then the others in their order.

    ``known_as``: what a domain can be named by.  A canary that isn't among the items is none.
    """
    named = [item for item in items if not set(rollout.canaries).isdisjoint(known_as(item))]
    unnamed = [item for item in items if item not in named]
    first, rest = [*named, *unnamed[: rollout.canary]], unnamed[rollout.canary :]
    size = rollout.wave or max(len(rest), 1)
    parts = [Wave(tuple(rest[start : start + size])) for start in range(0, len(rest), size)]
    return [Wave(tuple(first), canary=True), *parts] if first else parts


def failed(result: Result | None, *, canary: bool) -> bool:
    """A canary must be moved.  For other domains, a refusal before any change isn't a failure."""
    return result not in (DONE if canary else (*DONE, Result.BLOCKED))


def halts(ended: Iterable[tuple[str, Result | None, bool]], rollout: Rollout) -> str | None:
    """Why no other wave is begun; None: go on.  ``ended``: name, result, whether it was a canary, of those before."""
    ended = list(ended)
    if unsettled := [name for name, result, _ in ended if result is Result.UNKNOWN]:
        return f"the move of {', '.join(unsettled)} isn't settled"
    bad = [(name, canary) for name, result, canary in ended if failed(result, canary=canary)]
    canaries = [name for name, canary in bad if canary]
    if canaries:
        return f"the canary {', '.join(canaries)} wasn't moved; this one wasn't touched"
    if rollout.stop_after is not None and len(bad) >= rollout.stop_after:
        return f"{', '.join(name for name, _ in bad)} wasn't moved; this one wasn't touched"
    return None
