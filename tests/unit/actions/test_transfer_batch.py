"""A batch of swaps: what isn't moved is given up while libvirt's daemon is still away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from virtcpr.actions.daemon import blackout
from virtcpr.actions.daemon.blackout import DaemonDown
from virtcpr.actions.transfer.batch import Batch
from virtcpr.errors import HostError


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done, in order; no domain, no daemon."""
    done: list[str] = []

    @contextmanager
    def away(_recipe: object, *, required: bool) -> Iterator[None]:
        assert required
        done.append("away")
        try:
            yield
        finally:
            done.append("back")

    monkeypatch.setattr(blackout, "refuse_jobs", lambda _: None)
    monkeypatch.setattr(blackout, "daemon_away", away)
    monkeypatch.setattr(Batch, "_abandon_all", lambda _self, _moves, error: done.append(f"give up: {error}"))
    monkeypatch.setattr(Batch, "_adopt", lambda *_: done.append("adopt"))
    return done


def batch() -> Batch:
    made: Any = object.__new__(Batch)
    made.interrupt = SimpleNamespace(requested=False)
    made.connection = SimpleNamespace(close=lambda: None)
    made.daemon, made.notes = SimpleNamespace(recipe={}), []
    return made  # type: ignore[no-any-return]


def hand_over(error: Exception | None) -> Any:
    async def acted(*_: object) -> None:
        if error is not None:
            raise error

    return acted


def test_all_are_handed_over(done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Batch, "_hand_over_all", hand_over(None))
    batch()._swap_all([], lambda _: None)
    assert done == ["away", "adopt", "back"]


@pytest.mark.parametrize("error", [HostError("interrupted"), OSError("no descriptor left")])
def test_what_is_not_moved_is_given_up_before_the_daemon_starts(
    done: list[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(Batch, "_hand_over_all", hand_over(error))
    batch()._swap_all([], lambda _: None)
    assert done == ["away", f"give up: {error}", "adopt", "back"]


def test_a_daemon_that_does_not_come_back_is_noted(done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck(_recipe: object, *, required: bool) -> None:
        raise DaemonDown("it doesn't stop; it doesn't start", hint="by hand")

    monkeypatch.setattr(blackout, "daemon_away", stuck)
    made = batch()
    made._swap_all([], lambda _: None)
    assert done == ["give up: it doesn't stop; it doesn't start"]
    assert made.notes == ["it doesn't stop; it doesn't start: by hand"]
