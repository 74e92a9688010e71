"""A batch: in how many blackouts its guests are moved, and when the rest is left alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from virtcpr.actions.records import builds, moved
from virtcpr.actions.rollout.waves import Waves
from virtcpr.actions.transfer import batch as batch_module
from virtcpr.actions.transfer.batch import Batch
from virtcpr.model import Blackout, Blackouts, DomainReport, Result, UpgradeReport
from virtcpr.plan.batch.rollout import TOGETHER


class Interruption:
    requested = False

    def __enter__(self) -> Interruption:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class FakeMove:
    def __init__(self, number: int) -> None:
        live = SimpleNamespace(notice=None, tags=frozenset())
        self.facts = SimpleNamespace(name=f"web{number}", uuid=f"uuid{number}", live=live)
        self.result: Result | None = None
        self.why = ""

    def turn_back(self, why: str, _hint: str | None = None) -> None:
        self.result, self.why = Result.ROLLED_BACK, why

    def report(self) -> DomainReport:
        return DomainReport(self.facts.name, self.facts.uuid, self.result or Result.FAILED)


class FakeGroup:
    """Every blackout takes 500 ms, and 100 ms a guest; ``after`` is called with the number of the group."""

    sizes: ClassVar[list[int]] = []
    after: ClassVar[Any] = None

    def __init__(self, moves: list[FakeMove], _request: object, connection: object, _interrupt: object) -> None:
        self.moves, self.connection = moves, connection
        self.blackout: Blackout | None = None
        self.notes: list[str] = []
        self.down = False

    def run(self, _watch: object) -> None:
        FakeGroup.sizes.append(len(self.moves))
        for move in self.moves:
            move.result = Result.UPGRADED
        self.blackout = Blackout(len(self.moves), 500 + 100 * len(self.moves))
        if FakeGroup.after is not None:
            FakeGroup.after(self, len(FakeGroup.sizes))


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr(moved, "note", lambda report: names.append(report.name))
    monkeypatch.setattr(builds, "keep", lambda _: ())
    monkeypatch.setattr(batch_module, "Group", FakeGroup)
    monkeypatch.setattr(FakeGroup, "sizes", [])
    monkeypatch.setattr(FakeGroup, "after", None)
    return names


def batch(guests: int, limit_s: float | None = None, seen: tuple[Blackout, ...] = ()) -> Any:
    made: Any = object.__new__(Batch)
    made.request = SimpleNamespace(max_blackout_s=limit_s, mode=None)
    made.connection, made.interrupt, made.notes = None, Interruption(), []
    made.moves = [FakeMove(number) for number in range(guests)]
    made._seen, made._blackouts, made._down = list(seen), [], False
    return made


def run(guests: int, limit_s: float | None = None, seen: tuple[Blackout, ...] = ()) -> tuple[Any, UpgradeReport]:
    made = batch(guests, limit_s, seen)
    return made, Waves(made, TOGETHER).run(lambda _: None)


def test_all_are_moved_in_one_blackout(noted: list[str]) -> None:
    _, report = run(3)
    assert FakeGroup.sizes == [3]
    assert noted == ["web0", "web1", "web2"]
    assert (report.blackout_ms, report.blackouts) == (800, Blackouts(1, 800))


def test_a_limit_splits_the_batch_and_one_guest_shows_how_long_it_takes(noted: list[str]) -> None:
    _, report = run(20, limit_s=1.5)
    assert FakeGroup.sizes == [1, 4, 10, 5]
    assert report.blackouts == Blackouts(4, 1500)
    assert report.blackout_ms == 4 * 500 + 20 * 100
    assert len(noted) == 20
    assert report.notes == ()


def test_with_a_history_the_parts_are_as_large_as_they_may_be(noted: list[str]) -> None:
    run(20, limit_s=1.5, seen=(Blackout(2, 700), Blackout(20, 2500)))
    assert FakeGroup.sizes == [10, 10]


def test_blackouts_that_take_longer_than_allowed_are_told_and_the_third_is_the_last(noted: list[str]) -> None:
    def hangs(group: FakeGroup, _number: int) -> None:
        group.blackout = Blackout(len(group.moves), 31_000)

    FakeGroup.after = hangs
    made, report = run(4, limit_s=1.5)
    assert FakeGroup.sizes == [1, 1, 1]
    assert report.notes == ("a blackout of 31.0 s (guests moved: 1) was longer than --max-blackout 1.5",) * 3
    assert made.moves[3].why == "web3: one more blackout is forecast to be longer than 1.5 s"
    assert len(noted) == 4


def test_one_that_hung_does_not_keep_the_others(noted: list[str]) -> None:
    def hangs(group: FakeGroup, number: int) -> None:
        if number == 1:
            group.blackout = Blackout(len(group.moves), 31_000)

    FakeGroup.after = hangs
    _, report = run(10, limit_s=1.5)
    assert FakeGroup.sizes == [1, 1, 1, 4, 3]
    assert len(report.notes) == 1


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (lambda group: setattr(group, "down", True), "libvirt's daemon isn't there"),
        (lambda group: setattr(group.moves[0], "result", Result.UNKNOWN), "the move of web0 isn't settled"),
        (lambda group: setattr(Interruption, "requested", True), "interrupted"),
    ],
)
def test_the_rest_is_left_alone(noted: list[str], monkeypatch: pytest.MonkeyPatch, event: Any, why: str) -> None:
    monkeypatch.setattr(Interruption, "requested", False)
    FakeGroup.after = lambda group, number: event(group)
    made, _ = run(3, limit_s=1.5)
    assert FakeGroup.sizes == [1]
    assert [move.why for move in made.moves[1:]] == [f"web1: {why}", f"web2: {why}"]


def test_only_what_was_tried_is_noted(noted: list[str]) -> None:
    def full(group: FakeGroup, _number: int) -> None:
        group.moves[0].result = Result.ROLLED_BACK  # before it had a new QEMU

    FakeGroup.after = full
    made: Any = batch(2)
    made.moves[1].result = Result.BLOCKED
    Waves(made, TOGETHER).run(lambda _: None)
    assert noted == ["web0"]


def test_a_guest_without_a_result_is_not_tried_again(noted: list[str]) -> None:
    """That would be a defect; its guest may be in new QEMU."""

    def forgets(group: FakeGroup, _number: int) -> None:
        group.moves[0].result = None

    FakeGroup.after = forgets
    run(2)
    assert FakeGroup.sizes == [2]
