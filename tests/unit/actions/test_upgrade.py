"""`upgrade --fallback reboot`: two batches, and when the second isn't begun."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from virtcpr.actions.records import builds, moved
from virtcpr.actions.rollout import guest, notice
from virtcpr.actions.rollout import waves as waves_module
from virtcpr.actions.rollout.waves import Waves
from virtcpr.actions.upgrade import Both
from virtcpr.domain.facts import DomainFacts, Emulator
from virtcpr.host.processes.interrupt import Interrupt
from virtcpr.host.report import hooks_d
from virtcpr.model import DomainReport, ExitCode, Finding, Outlook, Result, Rollout, Severity, UpgradeReport
from virtcpr.plan.batch.fallback import merged
from virtcpr.plan.outcome import exit_code

UNSHARED = Finding("memory", Severity.BLOCKER, "RAM isn't shared", "prepare it")
FULL = Finding("room", Severity.BLOCKER, "no room", "free some")


class Move(SimpleNamespace):
    def end(self, result: Result, *findings: Finding) -> None:
        self.result, self.findings = result, findings

    def turn_back(self, reason: str) -> None:
        self.result, self.reason = Result.ROLLED_BACK, reason

    def report(self) -> DomainReport:
        return ended(self.facts.name, self.result)


def ended(name: str, result: Result, *findings: Finding) -> DomainReport:
    return DomainReport(name, name, result, findings=findings)


def facts_of(name: str, xml: str = "<domain/>") -> DomainFacts:
    return DomainFacts(name, name * 3, 1, "running", "", xml, Emulator("/usr/bin/qemu"))


def both(*transferred: DomainReport, signal: bool = False, down: bool = False) -> tuple[Any, Any]:
    """The two batches as one; `web` is the domain that is left to mode reboot."""
    move: Any = Move(facts=facts_of("web"), result=None, reason="")

    def first(_: object) -> UpgradeReport:
        made.interrupt.requested = signal
        code = exit_code({one.result for one in transferred}, [ExitCode.UNKNOWN] if down else ())
        return UpgradeReport(transferred, code, 100.0, ("first",))

    def second(_: object) -> UpgradeReport:
        move.result = move.result or Result.UPGRADED
        return UpgradeReport((ended("web", move.result),), exit_code([move.result]), 50.0, ("second",))

    parts: tuple[Any, Any] = (
        SimpleNamespace(run=first, connection="opened anew", halted=None),
        SimpleNamespace(run=second, turn_back=lambda why: move.turn_back(f"web: {why}"), connection="closed"),
    )
    made: Any = Both(*parts)
    return made, move


def test_one_report_of_both() -> None:
    made, _ = both(ended("db", Result.UPGRADED), ended("web", Result.BLOCKED, UNSHARED))
    report = made.run(print)
    assert [(one.name, one.result) for one in report.domains] == [("db", Result.UPGRADED), ("web", Result.UPGRADED)]
    assert (report.exit_code, report.blackout_ms, report.notes) == (ExitCode.DONE, 150.0, ("first", "second"))
    assert made.second.connection == "opened anew"


def test_nothing_is_begun_after_a_signal() -> None:
    made, move = both(ended("web", Result.BLOCKED, UNSHARED), signal=True)
    made.run(print)
    assert (move.result, move.reason) == (Result.ROLLED_BACK, "web: interrupted")


def test_nothing_is_begun_while_a_guest_is_unsettled() -> None:
    made, move = both(ended("db", Result.UNKNOWN), ended("web", Result.BLOCKED, UNSHARED))
    made.run(print)
    assert (move.result, move.reason) == (Result.ROLLED_BACK, "web: the move of db isn't settled")


def test_nothing_is_begun_while_the_daemon_is_away() -> None:
    """And the whole isn't only rolled back."""
    made, move = both(ended("db", Result.ROLLED_BACK), ended("web", Result.BLOCKED, UNSHARED), down=True)
    assert made.run(print).exit_code is ExitCode.UNKNOWN
    assert (move.result, move.reason) == (Result.ROLLED_BACK, "web: libvirt's daemon isn't there")


@pytest.mark.parametrize(
    ("reboot", "findings"), [(None, (FULL,)), (Result.BLOCKED, (UNSHARED, FULL))], ids=["can", "cannot"]
)
def test_the_word_on_a_domain_is_that_of_the_mode_that_can(
    reboot: Result | None, findings: tuple[Finding, ...]
) -> None:
    first = Outlook("web", "web", None, None, Result.BLOCKED, (UNSHARED,))
    (word,) = merged([first], [Outlook("web", "web", None, None, reboot, (FULL,))])
    assert (word.verdict, word.findings) == (reboot, findings)


class Batch:
    """Three domains and more, of which some can't be moved; ``fails`` are rolled back when they are."""

    def __init__(self, names: str, *fails: str, blocked: str = "", current: str = "") -> None:
        self.interrupt, self.connection = Interrupt(), "connection"
        self.moves: list[Any] = [Move(facts=facts_of(name), result=None, reason="") for name in names]
        for move in self.moves:
            if move.facts.name in blocked:
                move.result = Result.BLOCKED
            if move.facts.name in current:
                move.result = Result.CURRENT
        self.fails = fails
        self.waves: list[str] = []
        self.then: Any = None

    def move(self, moves: Any, _watch: Any) -> None:
        self.waves.append("".join(move.facts.name for move in moves))
        for move in moves:
            move.result = Result.ROLLED_BACK if move.facts.name in self.fails else Result.UPGRADED
        if self.then is not None:
            self.then()

    def forecast_of(self, sizes: Any) -> Any:
        return sizes

    def report(self) -> UpgradeReport:
        return UpgradeReport((), ExitCode.DONE)


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the guests are told; z objects."""
    seen: list[str] = []

    def ask(_connection: object, facts: Any) -> str | None:
        seen.append(f"before {facts.name}")
        return "it is busy" if facts.name == "z" else None

    monkeypatch.setattr(guest, "ask", ask)
    monkeypatch.setattr(guest, "tell", lambda _, facts: seen.append(f"after {facts.name}"))
    monkeypatch.setattr(moved, "note", lambda _: None)
    monkeypatch.setattr(builds, "keep", lambda _: ())
    return seen


def in_waves(batch: Any, rollout: Rollout) -> Any:
    return Waves(batch, rollout)


def test_canaries_first_then_waves() -> None:
    batch = Batch("abcdefg")
    made = in_waves(batch, Rollout(canary=1, canaries=("fff",), wave=2))
    assert made.forecast == [2, 2, 2, 1]
    made.run(print)
    assert batch.waves == ["fa", "bc", "de", "g"]


def test_canaries_by_a_tag() -> None:
    """A domain whose XML can't be parsed has none, and stops nothing."""
    batch = Batch("abcd")
    tagged = "<domain><metadata><tags xmlns='urn:virtcpr:tags:1'>spare old</tags></metadata></domain>"
    batch.moves[2].facts = facts_of("c", tagged)
    batch.moves[3].facts = facts_of("d", "<domain")
    in_waves(batch, Rollout(canaries=("tag:spare",))).run(print)
    assert [batch.waves[0], sorted(batch.waves[1])] == ["c", ["a", "b", "d"]]


@pytest.mark.parametrize(
    ("batch", "waves", "left"),
    [
        (Batch("abcdef", "a"), ["a"], "the canary a wasn't moved; this one wasn't touched"),
        (Batch("abcdef", "c"), ["a", "bc"], "c wasn't moved; this one wasn't touched"),
    ],
)
def test_after_a_failure_the_rest_is_not_touched(batch: Batch, waves: list[str], left: str) -> None:
    in_waves(batch, Rollout(canary=1, wave=2)).run(print)
    assert batch.waves == waves
    assert {move.reason.partition(": ")[2] for move in batch.moves[3:]} == {left}
    assert {move.result for move in batch.moves[3:]} == {Result.ROLLED_BACK}


def test_the_builds_that_guests_leave_are_kept_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be is a note: the guests are moved all the same."""
    batch = Batch("abc", blocked="b")
    seen: list[str] = []

    def keep(domains: Any) -> tuple[str, ...]:
        assert batch.waves == []
        seen.extend(facts.name for facts in domains)
        return ("no room",)

    monkeypatch.setattr(builds, "keep", keep)
    assert in_waves(batch, Rollout()).run(print).notes == ("no room",)
    assert (seen, batch.waves) == (["a", "c"], ["ac"])


def test_nothing_is_begun_while_one_is_unsettled() -> None:
    """However many failures are allowed."""
    batch = Batch("abcd")

    def lose() -> None:
        batch.moves[1].result = Result.UNKNOWN

    batch.then = lose
    in_waves(batch, Rollout(wave=2, stop_after=9)).run(print)
    assert batch.waves == ["ab"]
    assert {move.reason.partition(": ")[2] for move in batch.moves[2:]} == {"the move of b isn't settled"}


def test_so_many_failures_are_allowed() -> None:
    batch = Batch("abcdefgh", "a", "d")
    in_waves(batch, Rollout(wave=2, stop_after=2)).run(print)
    assert batch.waves == ["ab", "cd"]
    assert batch.moves[4].reason == "e: a, d wasn't moved; this one wasn't touched"


def test_a_canary_that_is_blocked_stops_everything_and_one_that_is_current_nothing() -> None:
    batch = Batch("abc", blocked="b")
    in_waves(batch, Rollout(canaries=("b",))).run(print)
    assert batch.waves == []
    assert batch.moves[0].reason == "a: the canary b wasn't moved; this one wasn't touched"
    batch = Batch("abc", current="b")
    in_waves(batch, Rollout(canaries=("b",))).run(print)
    assert batch.waves == ["ac"]


def test_there_is_a_pause_between_waves_which_a_signal_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []
    said: list[str] = []

    def wait(_look: object, seconds: float, **_: object) -> None:
        paused.append(seconds)
        batch.interrupt.requested = len(paused) == 2

    monkeypatch.setattr(waves_module, "wait_until", wait)
    batch = Batch("abcd")
    in_waves(batch, Rollout(wave=1, pause_s=60)).run(lambda progress: said.append(progress.phase))
    assert paused == [60, 60]
    assert said == ["the next wave begins in 60 s"] * 2
    assert batch.waves == ["a", "b"]
    assert [move.reason for move in batch.moves[2:]] == ["c: interrupted", "d: interrupted"]


def test_there_is_no_pause_after_the_last_wave_nor_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []
    monkeypatch.setattr(waves_module, "wait_until", lambda _, seconds, **__: paused.append(seconds))
    in_waves(Batch("ab"), Rollout(wave=2, pause_s=60)).run(print)
    in_waves(Batch("abc", "a"), Rollout(wave=1, pause_s=60)).run(print)
    assert paused == []


def test_a_failure_in_mode_transfer_keeps_the_others_from_mode_reboot() -> None:
    made, move = both(ended("db", Result.ROLLED_BACK), ended("web", Result.BLOCKED, UNSHARED))
    made.first.halted = "the canary db wasn't moved; this one wasn't touched"
    made.run(print)
    assert (move.result, move.reason) == (
        Result.ROLLED_BACK,
        "web: the canary db wasn't moved; this one wasn't touched",
    )


Asked = list[tuple[str, Any]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The events of the administrator's programs, and what each was given; ``objects`` to the domain c."""
    seen: Asked = []

    def ask(event: str, document: Any) -> str | None:
        seen.append((event, document))
        names = [move.facts.name for move in document[1]]
        return "its backup runs" if event == "before-domain" and names == ["c"] else None

    monkeypatch.setattr(notice, "document", lambda _, place, moves: (place, moves))
    monkeypatch.setattr(hooks_d, "ask", lambda event, make: ask(event, make()))
    monkeypatch.setattr(hooks_d, "tell", lambda event, make: seen.append((event, make())))
    return seen


def test_programs_are_asked_before_and_told_afterwards(asked: Asked) -> None:
    batch = Batch("abc")
    in_waves(batch, Rollout(canary=1)).run(print)
    assert batch.waves == ["a", "b"]
    blocked = batch.moves[2]
    assert blocked.result is Result.BLOCKED
    assert blocked.findings[0].code == "vetoed"
    assert blocked.findings[0].message.endswith("objected (before-domain): its backup runs")
    events = [(event, "".join(move.facts.name for move in moves), place.number) for event, (place, moves) in asked]
    assert events == [
        ("before-wave", "a", 1), ("before-domain", "a", 1), ("after-domain", "a", 1), ("after-wave", "a", 1),
        ("before-wave", "bc", 2), ("before-domain", "b", 2), ("before-domain", "c", 2),
        ("after-domain", "b", 2), ("after-domain", "c", 2), ("after-wave", "bc", 2),
    ]  # fmt: skip


def test_a_canary_that_a_program_keeps_stops_everything(asked: Asked) -> None:
    batch = Batch("abc")
    in_waves(batch, Rollout(canaries=("c",))).run(print)
    assert batch.waves == [""]
    assert [move.result for move in batch.moves] == [Result.ROLLED_BACK, Result.ROLLED_BACK, Result.BLOCKED]


def test_a_signal_while_a_program_runs_touches_nothing(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Batch("ab")

    def ask(*_: object) -> None:
        batch.interrupt.requested = True

    monkeypatch.setattr(hooks_d, "ask", ask)
    in_waves(batch, Rollout(canary=1)).run(print)
    assert batch.waves == []
    assert [move.reason for move in batch.moves] == ["a: interrupted", "b: interrupted"]


def test_guests_are_told_and_one_objects(asked: Asked, told: list[str]) -> None:
    """After the administrator's programs have let it pass."""
    batch = Batch("acz", "a")
    in_waves(batch, Rollout(stop_after=None)).run(print)
    assert batch.waves == ["a"]
    assert told == ["before a", "before z", "after a", "after z"]
    (finding,) = batch.moves[2].findings
    assert (finding.code, finding.message) == ("guest-vetoed", "the guest objected: it is busy")


def test_who_was_told_is_told_of_the_end_whatever_happens(asked: Asked, told: list[str]) -> None:
    """After a signal, and after a defect: a guest that has made itself quiet must not stay so."""
    batch = Batch("ab")

    def signal() -> None:
        batch.interrupt.requested = True
        raise RuntimeError("a defect")

    batch.then = signal
    with pytest.raises(RuntimeError):
        in_waves(batch, Rollout(canary=1)).run(print)
    assert told == ["before a", "after a"]
    assert [event for event, _ in asked[-2:]] == ["after-domain", "after-wave"]
