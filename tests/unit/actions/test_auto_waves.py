"""`auto` moves guests wave after wave: what it asks for, what ends it, and what is said of the rest."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.unit.support.upgrades import APPLY, NEW, NOON, OLD, Upgrades, actions, planned
from virtcpr.actions.auto import run as auto
from virtcpr.errors import HostError
from virtcpr.model import (
    AutoReport,
    ExitCode,
    Mode,
    Outlook,
    PreparedDomain,
    PrepareReport,
    Readying,
    Request,
    Result,
    Rollout,
)
from virtcpr.plan import auto as judging
from virtcpr.plan.auto import AutoPlan, Candidate
from virtcpr.plan.policy import Policy
from virtcpr.plan.windows import Window


def run(plan: AutoPlan, rules: Policy = APPLY) -> AutoReport:
    return auto.Automatic(rules, None, plan).run(lambda _: None)


def test_the_canary_goes_first(upgrades: Upgrades) -> None:
    report = run(planned("a", "b", "c"))
    assert actions(report) == "a:upgraded b:upgraded c:upgraded"
    assert [(r.domains, r.parallel, r.mode, r.rehearse, r.rollout) for r in upgrades.requests] == [
        (("a",), 3, Mode.TRANSFER, True, Rollout(canary=1)),
        (("b", "c"), 3, Mode.TRANSFER, True, None),
    ]
    assert (report.exit_code, report.blackout_ms, report.notes) == (ExitCode.DONE, 200.0, ("note 1", "note 2"))


@pytest.mark.parametrize("left", [Readying.PREPARED, Readying.BLOCKED])
def test_a_wave_of_mode_live_is_prepared_before(
    upgrades: Upgrades, monkeypatch: pytest.MonkeyPatch, left: Readying
) -> None:
    """What can't be prepared is moved all the same, and told."""
    prepared: list[tuple[str, ...]] = []

    class Preparation:
        def run(self) -> PrepareReport:
            return PrepareReport((PreparedDomain("a", "a", left),), ExitCode.DONE)

    @contextmanager
    def opened(request: Request, _name: None, *, undo: bool) -> Iterator[Preparation]:
        assert (upgrades.requests, undo) == ([], False)
        prepared.append(request.domains)
        yield Preparation()

    monkeypatch.setattr(auto, "open_preparation", opened)
    found = Candidate(Outlook("a", "a", OLD, NEW, Result.BLOCKED), live=Outlook("a", "a", OLD, NEW, mode=Mode.LIVE))
    report = run(judging.plan([found], APPLY, NOON))
    assert (actions(report), prepared, upgrades.requests[0].mode) == ("a:upgraded", [("a",)], Mode.LIVE)
    told = "not prepared for their next start: a ('virtcpr prepare a' says why)"
    assert (told in report.notes) == (left is Readying.BLOCKED)


@pytest.mark.parametrize(("set_to", "asked"), [(5, 5), (0, None)])
def test_no_wave_is_asked_for_a_longer_blackout_than_the_rules_allow(
    upgrades: Upgrades, set_to: int, asked: float | None
) -> None:
    """0 means no limit there; `upgrade` would take it for a limit that nobody can keep."""
    run(planned("a", "b"), replace(APPLY, max_blackout_s=set_to))
    assert [request.max_blackout_s for request in upgrades.requests] == [asked, asked]


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (Result.ROLLED_BACK, ExitCode.ROLLED_BACK),
        (Result.FAILED, ExitCode.FAILED),
        (Result.UNKNOWN, ExitCode.UNKNOWN),
        (Result.BLOCKED, ExitCode.BLOCKED),
    ],
)
def test_a_canary_that_is_not_moved_stops_the_rest(upgrades: Upgrades, result: Result, code: ExitCode) -> None:
    upgrades.becomes["a"] = result
    report = run(planned("a", "b", "c"))
    assert actions(report) == f"a:{result.value} b:left c:left"
    assert report.domains[1].reason == "the canary a wasn't moved; this one wasn't touched"
    assert (len(upgrades.requests), report.exit_code) == (1, code)


def test_one_that_is_current_meanwhile_is_a_canary_too(upgrades: Upgrades) -> None:
    upgrades.becomes["a"] = Result.CURRENT
    assert actions(run(planned("a", "b"))) == "a:current b:upgraded"


def test_after_a_failure_no_wave_comes(upgrades: Upgrades) -> None:
    rules = replace(APPLY, canary=0)
    plan = planned("a", "b", rules=rules)
    by_reboot = replace(plan.domains[1], uuid="r", name="r", mode=Mode.REBOOT)
    plan = AutoPlan((*plan.domains, by_reboot), (*plan.waves, judging.Wave(Mode.REBOOT, ("r",))))
    upgrades.becomes["b"] = Result.ROLLED_BACK
    assert actions(run(plan, rules)) == "a:upgraded b:rolled-back r:left"
    upgrades.becomes["b"] = Result.BLOCKED  # refused before it was touched: nobody else's affair
    report = run(plan, rules)
    assert actions(report) == "a:upgraded b:blocked r:upgraded"
    assert report.exit_code is ExitCode.SOME


def test_what_cannot_begin_waits(upgrades: Upgrades) -> None:
    upgrades.refuses = HostError("another virtcpr is at work")
    report = run(planned("a", "b"))
    assert actions(report) == "a:waiting b:waiting"
    assert report.domains[0].reason == "another virtcpr is at work"
    assert (report.exit_code, report.blackout_ms) == (ExitCode.DONE, None)


def test_a_job_of_libvirts_is_waited_for(upgrades: Upgrades) -> None:
    """It is no failure of the canary: the daemon can't be stopped now, and nothing was touched."""
    upgrades.busy = "libvirt's daemon is busy with db"
    report = run(planned("a", "b"))
    assert actions(report) == "a:waiting b:waiting"
    assert report.domains[1].reason == "libvirt's daemon is busy with db"


def test_there_is_a_pause_between_waves(upgrades: Upgrades, monkeypatch: pytest.MonkeyPatch) -> None:
    """In which a window may close; not after the last, nor if nothing is left to move."""
    paused: list[float] = []
    monkeypatch.setattr(auto, "wait_until", lambda _, seconds, **__: paused.append(seconds))
    rules = replace(APPLY, wave=1, pause_between_s=60)
    assert actions(run(planned("a", "b", "c", rules=rules), rules)) == "a:upgraded b:upgraded c:upgraded"
    assert paused == [60, 60]
    upgrades.becomes["a"] = Result.FAILED
    assert actions(run(planned("a", "b", rules=rules), rules)) == "a:failed b:left"
    assert paused == [60, 60]


def test_a_window_that_closes_in_between(upgrades: Upgrades, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = replace(APPLY, windows=(Window(12 * 60, 13 * 60),))
    upgrades.moving = lambda _: monkeypatch.setattr(auto, "this_moment", lambda: replace(NOON, minute=13 * 60))
    report = run(planned("a", "b", rules=rules), rules)
    assert actions(report) == "a:upgraded b:waiting"
    assert report.domains[1].reason == "guests are only moved 12:00-13:00"


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_interrupted_while_it_looks(upgrades: Upgrades) -> None:
    upgrades.looking = interrupt
    assert actions(run(planned("a", "b"))) == "a:waiting b:waiting"


def test_interrupted_while_it_moves(upgrades: Upgrades) -> None:
    """The wave ends as `upgrade` ends it; the next one doesn't begin."""
    upgrades.moving = lambda _: interrupt()
    assert actions(run(planned("a", "b"))) == "a:upgraded b:waiting"
    assert len(upgrades.requests) == 1


def test_what_is_planned_is_shown() -> None:
    automatic = auto.Automatic(APPLY, None, planned("a", "b"))
    assert automatic.moving == ("a", "b")
    assert (actions(automatic.report), automatic.report.dry_run) == ("a:move b:move", True)
