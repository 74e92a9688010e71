"""How long a pause and a blackout are forecast to be, and what is done about those that are too long."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from virtcpr.domain.facts import DomainFacts
from virtcpr.model import Blackout, Blackouts, Result
from virtcpr.plan.batch import forecast
from virtcpr.plan.outcome import Outcome

SEEN = (Blackout(1, 600), Blackout(8, 1020), Blackout(24, 1980))  # 540 ms, and 60 ms a guest


@pytest.mark.parametrize(
    ("seen", "guests", "expected"),
    [
        ((), 1, None),
        (SEEN, 60, 540 + 60 * 60),
        ((Blackout(4, 840),), 10, 600 + 600),  # one number only: 60 ms a guest is assumed
        ((*SEEN, Blackout(8, 31_000)), 8, 1020),  # libvirtd hung
        ((Blackout(2, 900), Blackout(20, 800)), 10, 630 + 200),  # noise: no guest shortens a blackout
        ((Blackout(60, 100),), 2, 120),
    ],
)
def test_a_blackout(seen: tuple[Blackout, ...], guests: int, expected: float | None) -> None:
    assert forecast.blackout(seen, guests) == expected


@pytest.mark.parametrize(
    ("seen", "left", "limit_ms", "number"),
    [
        ((), 60, None, 60),
        ((), 60, 5000, 1),
        (SEEN, 60, 3000, 41),
        (SEEN, 30, 3000, 30),
        (SEEN, 200, 30_000, 96),  # four times what was ever done at once
        (SEEN, 60, 500, 0),
        (SEEN[:2], 60, 500, 1),  # not sure yet
        ((Blackout(0, 500),) * 3, 60, 2000, 4),  # all were rolled back
    ],
)
def test_how_many_at_once(seen: tuple[Blackout, ...], left: int, limit_ms: float | None, number: int) -> None:
    assert forecast.at_once(seen, left, limit_ms) == number


@pytest.mark.parametrize(
    ("seen", "guests", "limit_ms", "expected"),
    [
        (SEEN, 24, None, Blackouts(1, 1980)),
        (SEEN, 60, 3000, Blackouts(2, 3000)),
        (SEEN, 0, None, None),
        ((), 3, None, None),
        (SEEN, 3, 500, None),
    ],
)
def test_how_often_and_how_long(
    seen: tuple[Blackout, ...], guests: int, limit_ms: float | None, expected: Blackouts | None
) -> None:
    assert forecast.blackouts(seen, guests, limit_ms) == expected


def outcomes(*uuids: str) -> list[Outcome]:
    return [Outcome(cast(DomainFacts, SimpleNamespace(name=f"name-{uuid}", uuid=uuid))) for uuid in uuids]


def test_a_longer_pause_is_not_begun() -> None:
    slow, quick, new = moves = outcomes("slow", "quick", "new")
    forecast.refuse_long_pauses(moves, 100, {"slow": [90, 101, 150], "quick": [100, 90]})
    assert [move.result for move in moves] == [Result.BLOCKED, None, None]
    (finding,) = slow.findings
    assert finding.code == "long-pause"
    assert finding.message == "a pause of 101 ms is forecast, by its last moves; --max-pause allows 100 ms"
    assert "virtcpr history name-slow" in finding.remedy
    assert quick.findings == new.findings == ()


def test_where_one_guest_takes_too_long_none_is_begun() -> None:
    moves = outcomes("a", "b")
    forecast.refuse_long_blackouts(moves, 0.5, SEEN[:2])
    assert [move.result for move in moves] == [None, None]
    forecast.refuse_long_blackouts(moves, 0.5, SEEN)
    assert [move.result for move in moves] == [Result.BLOCKED, Result.BLOCKED]
    (finding,) = moves[0].findings
    assert finding.code == "long-blackout"
    assert "be away for 0.6 s for one guest, by the last times; --max-blackout allows 0.5 s" in finding.message


def test_without_limits_nothing_is_refused() -> None:
    moves = outcomes("a")
    forecast.refuse_long_pauses(moves, None, {"a": [1e9]})
    forecast.refuse_long_blackouts(moves, None, SEEN)
    assert moves[0].result is None
