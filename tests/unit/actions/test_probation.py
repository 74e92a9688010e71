"""Guests after their move: what counts as a sign of trouble, who goes back, and with which result."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from virtcpr.actions.records import batch as records
from virtcpr.actions.records import builds, journal, moved, unsettled
from virtcpr.actions.rollout import guest, probation, waves
from virtcpr.actions.rollout.notice import Place
from virtcpr.actions.rollout.probation import OnProbation
from virtcpr.errors import HostError, UsageError
from virtcpr.host.libvirt.events import REBOOTED
from virtcpr.host.processes.interrupt import Interrupt
from virtcpr.host.qemu import kept
from virtcpr.host.qemu.kept import Kept
from virtcpr.host.report import hooks_d
from virtcpr.model import (
    DomainReport,
    ExitCode,
    Finding,
    Outlook,
    Probation,
    Progress,
    Request,
    Result,
    Rollout,
    UpgradeReport,
)

PLACE = Place(1, 1, canary=False)


class Move:
    def __init__(self, name: str, build: str = "old", agent: bool | None = None) -> None:
        self.facts: Any = SimpleNamespace(name=name, uuid=name, process=SimpleNamespace(build=build), agent=agent)
        self.result: Result | None = Result.UPGRADED
        self.findings: tuple[Finding, ...] = ()

    def outlook(self) -> Outlook:
        return Outlook(self.facts.name, self.facts.uuid, None, None)

    def report(self) -> DomainReport:
        return DomainReport(self.facts.name, self.facts.uuid, self.result or Result.FAILED, findings=self.findings)

    def end(self, result: Result, *findings: Finding) -> None:
        self.result, self.findings = result, findings

    def turn_back(self, reason: str, hint: str | None = None) -> None:
        raise AssertionError(reason)


class Connection:
    """Domains by name: their state, or why QEMU doesn't answer; without one they have ended."""

    uri = "qemu:///system"

    def __init__(self, **states: tuple[str, str] | str) -> None:
        self.states = states
        self.pings = 0
        self.agent = True
        self.job: str | None = None
        self.there = True

    def alive(self) -> bool:
        return self.there

    def find(self, uuid: str) -> Any:
        state = self.states.get(uuid, ("running", ""))
        if state == "gone":
            return None

        def monitor(_command: str) -> None:
            if isinstance(state, str):
                raise HostError(state)

        return SimpleNamespace(
            id=1,
            state=lambda: ("running", "") if isinstance(state, str) else state,
            monitor=monitor,
            agent_answers=self._ping,
            job=lambda: self.job,
        )

    def _ping(self, _seconds: int) -> bool:
        self.pings += 1
        return self.agent


class Batch:
    def __init__(self, connection: Any, *moves: Move, result: Result = Result.UPGRADED) -> None:
        self.connection, self.interrupt = connection, Interrupt()
        self.moves: list[Any] = list(moves)
        self.notes: list[str] = []
        self.becomes = result
        self.made: list[str] = []
        self.why: Any = None

    def move(self, moves: Any, _watch: Any) -> None:
        self.why = records.current()
        for move in moves:
            self.made.append(move.facts.name)
            move.end(self.becomes)

    def report(self) -> UpgradeReport:
        return UpgradeReport(tuple(move.report() for move in self.moves), ExitCode.DONE)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Events to come; no time passes, and every look is due."""
    events: list[tuple[str, str]] = []
    now = [0.0]

    class Events:
        def __init__(self, _uri: str) -> None:
            pass

        def take(self) -> list[tuple[str, str]]:
            taken, events[:] = [*events], []
            return taken

        def __enter__(self) -> Events:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    def sleep(seconds: float) -> None:
        now[0] += max(seconds, 0.001)

    monkeypatch.setattr(probation, "Events", Events)
    monkeypatch.setattr(probation, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    monkeypatch.setattr(probation, "POLL", 0.0)
    monkeypatch.setattr(hooks_d, "ask", lambda _event, _document: None)
    monkeypatch.setattr(kept, "builds", lambda: [Kept("old", "10.0.2", "", "/kept/old")])
    monkeypatch.setattr(records, "_own", lambda: records.Batch(4))
    monkeypatch.setattr(journal, "pending", list)
    monkeypatch.setattr(unsettled, "_saves", lambda _directory: iter(()))
    return events


def watched(batch: Batch, *backs: Batch, whole: bool = False) -> list[Request]:
    """Watch the moves of a batch for five seconds; ``backs`` are the batches in which they go back."""
    requests: list[Request] = []
    planned = iter(backs)

    def again(request: Request, _connection: object) -> Any:
        requests.append(request)
        back = next(planned)
        back.moves = [Move(name) for name in request.domains]
        for move in back.moves:
            move.result = None
        back.report = lambda: UpgradeReport((), ExitCode.DONE, 1234.0)  # type: ignore[method-assign]
        return back

    rules = OnProbation(Probation(5, whole), Request(every=True, emulator="/new"), again)
    rules.watch(batch, batch.moves, PLACE, lambda _progress: None)
    return requests


def test_nothing_happens() -> None:
    batch = Batch(Connection(), Move("a"), Move("b", agent=True))
    assert watched(batch) == []
    assert {move.result for move in batch.moves} == {Result.UPGRADED}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (("crashed", ""), "it is crashed"),
        (("paused", "I/O error"), "it is paused (I/O error)"),
        (("paused", "watchdog"), "it is paused (watchdog)"),
        ("monitor: timed out", "its QEMU doesn't answer: monitor: timed out"),
    ],
)
def test_signs_that_are_looked_for(state: Any, words: str) -> None:
    back = Batch(Connection())
    batch = Batch(Connection(a=state), Move("a"), Move("b"))
    (request,) = watched(batch, back)
    assert (request.domains, request.emulators, request.emulator) == (("a",), {"a": "/kept/old"}, None)
    assert (request.every, request.probation, request.rollout) == (False, None, None)
    (a, b) = batch.moves
    assert (a.result, b.result) == (Result.ROLLED_BACK, Result.UPGRADED)
    assert [finding.code for finding in a.findings] == ["sign"]
    assert a.findings[0].message.endswith(f"again: {words}")
    assert (back.why.undoes, back.why.why) == (4, {"a": words})
    assert batch.connection is back.connection
    assert batch.notes == ["going back: blackout 1.2 s"]


def test_while_a_job_is_at_work_no_command_passes() -> None:
    connection = Connection(a="Timed out during operation: cannot acquire state change lock")
    connection.job = "unbounded"
    assert watched(Batch(connection, Move("a"))) == []


def test_a_daemon_that_is_restarted_is_no_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guests are looked at again when it is back."""
    gone, back = Connection(a="libvirt's daemon doesn't answer"), Connection(b=("crashed", ""))
    gone.there = False
    monkeypatch.setattr(probation, "Connection", lambda _uri: back)
    batch = Batch(gone, Move("a"), Move("b"))
    (request,) = watched(batch, Batch(back))
    assert request.domains == ("b",)


def test_a_guest_that_is_reset_has_no_agent_for_a_while(quick: list[tuple[str, str]]) -> None:
    quick.append(("a", REBOOTED))
    connection = Connection()
    connection.agent = False
    assert watched(Batch(connection, Move("a", agent=True))) == []


@pytest.mark.parametrize("state", [("paused", "user"), ("paused", "snapshot"), ("shut off", ""), "gone"])
def test_what_somebody_asked_for_is_none(state: Any) -> None:
    assert watched(Batch(Connection(a=state), Move("a"))) == []


def test_an_event(quick: list[tuple[str, str]]) -> None:
    quick += [("other", "the guest panicked"), ("a", "the guest panicked")]
    batch = Batch(Connection(), Move("a"))
    watched(batch, Batch(Connection()))
    assert batch.moves[0].result is Result.ROLLED_BACK


def test_an_agent_that_falls_silent() -> None:
    connection = Connection()
    connection.agent = False
    batch = Batch(connection, Move("a", agent=True), Move("b", agent=False), Move("c"))
    watched(batch, Batch(Connection()))
    assert [move.result for move in batch.moves] == [Result.ROLLED_BACK, Result.UPGRADED, Result.UPGRADED]
    assert "its guest agent doesn't answer any more" in batch.moves[0].findings[0].message
    assert connection.pings == probation.SILENT


def test_a_program_of_the_administrators(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(event: str, document: Any) -> str | None:
        assert event == "watch-domain"
        return "500" if '"name": "b"' in document() else None

    monkeypatch.setattr(hooks_d, "ask", ask)
    batch = Batch(Connection(), Move("a"), Move("b"))
    (request,) = watched(batch, Batch(Connection()))
    assert request.domains == ("b",)


def test_the_whole_wave() -> None:
    batch = Batch(Connection(b=("crashed", "")), Move("a"), Move("b"))
    back = Batch(Connection())
    watched(batch, back, whole=True)
    assert back.made == ["a", "b"]
    assert [move.result for move in batch.moves] == [Result.ROLLED_BACK] * 2
    assert "another guest of its wave showed a sign of trouble: it is crashed" in batch.moves[0].findings[0].message


def test_only_what_was_moved_is_watched() -> None:
    left = Move("a")
    left.result = Result.BLOCKED
    assert watched(Batch(Connection(a=("crashed", "")), left)) == []


def test_the_others_are_watched_on(quick: list[tuple[str, str]]) -> None:
    """Each goes back once."""
    batch = Batch(Connection(a=("crashed", "")), Move("a"), Move("b"))
    after = Batch(Connection(b=("crashed", "")))
    requests = watched(batch, after, Batch(Connection()))
    assert [request.domains for request in requests] == [("a",), ("b",)]


@pytest.mark.parametrize(
    ("becomes", "result", "code"),
    [
        (Result.ROLLED_BACK, Result.FAILED, "sign-stays"),
        (Result.BLOCKED, Result.FAILED, "sign-stays"),
        (Result.UNKNOWN, Result.UNKNOWN, "sign-stays"),
    ],
)
def test_one_that_cannot_go_back(becomes: Result, result: Result, code: str) -> None:
    batch = Batch(Connection(a=("crashed", "")), Move("a"))
    watched(batch, Batch(Connection(), result=becomes))
    assert (batch.moves[0].result, batch.moves[0].findings[0].code) == (result, code)


def test_one_that_has_ended_keeps_no_other_from_going_back(quick: list[tuple[str, str]]) -> None:
    """A transient domain isn't known to libvirt any more."""
    quick.append(("a", "its QEMU crashed"))
    batch = Batch(Connection(a="gone"), Move("a"), Move("b"))
    (request,) = watched(batch, Batch(Connection()), whole=True)
    assert request.domains == ("b",)
    assert [move.result for move in batch.moves] == [Result.FAILED, Result.ROLLED_BACK]
    assert batch.moves[0].findings[0].message.endswith("couldn't go back: it has ended")


def test_a_build_that_is_not_kept() -> None:
    batch = Batch(Connection(a=("crashed", "")), Move("a", build="older"))
    assert watched(batch) == []
    assert batch.moves[0].result is Result.FAILED
    assert batch.moves[0].findings[0].message.endswith("couldn't go back: its former build isn't kept")


def test_none_goes_back_while_another_is_unsettled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "pending", lambda: ["a"])
    batch = Batch(Connection(b=("crashed", "")), Move("b"))
    assert watched(batch) == []
    assert batch.moves[0].result is Result.FAILED
    words = "couldn't go back: an earlier swap of a was interrupted and isn't settled"
    assert batch.moves[0].findings[0].message.endswith(words)


def test_a_daemon_that_stays_away_after_a_way_back_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest is back, which is no failure of the next wave's; but nothing could be moved, and it is told."""
    back = Batch(Connection())
    back.report = lambda: UpgradeReport((), ExitCode.UNKNOWN)  # type: ignore[method-assign]

    def again(request: Request, _connection: object) -> Any:
        back.moves = [Move(name) for name in request.domains]
        for move in back.moves:
            move.result = None
        return back

    monkeypatch.setattr(guest, "ask", lambda _connection, _facts: None)
    monkeypatch.setattr(guest, "tell", lambda _connection, _facts: None)
    monkeypatch.setattr(moved, "note", lambda _report: None)
    monkeypatch.setattr(builds, "keep", lambda _facts: ())
    batch = Batch(Connection(a=("crashed", "")), Move("a"), Move("b"))
    for move in batch.moves:
        move.facts.live, move.result = SimpleNamespace(tags=frozenset()), None
    left: list[str] = []
    batch.moves[1].turn_back = lambda why, _hint=None: left.append(why)
    rules = OnProbation(Probation(5), Request(every=True, emulator="/new"), again)
    whole: Any = batch
    report = waves.Waves(whole, Rollout(wave=1, stop_after=None), rules).run(lambda _progress: None)
    assert report.exit_code is ExitCode.UNKNOWN
    assert left == ["b: libvirt's daemon isn't there"]


def test_a_signal_ends_it() -> None:
    batch = Batch(Connection(a=("crashed", "")), Move("a"))
    batch.interrupt.requested = True
    assert watched(batch) == []
    assert batch.moves[0].result is Result.UPGRADED


def nobody(_request: object, _connection: object) -> Any:
    pytest.fail("nothing goes back")


def test_without_builds_there_is_no_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builds, "wanted", lambda: False)
    with pytest.raises(UsageError, match=r"keep.builds in virtcpr.toml is 0"):
        waves.on_probation(Request(probation=Probation(5)), nobody)
    assert waves.on_probation(Request(), nobody) is None


def test_it_says_how_long() -> None:
    seen: list[Progress] = []
    rules: OnProbation[Any] = OnProbation(Probation(5), Request(), nobody)
    rules.watch(Batch(Connection(), Move("a")), [Move("a")], PLACE, seen.append)
    assert [progress.phase for progress in seen] == ["the guests are watched for 5 s"]
