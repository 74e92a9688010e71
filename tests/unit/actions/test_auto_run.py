"""`auto`: when it acts, wave after wave, and what becomes of the note that it acts on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from virtcpr.actions.auto import candidates, notify, pending
from virtcpr.actions.auto import run as auto
from virtcpr.actions.auto.pending import Note
from virtcpr.actions.daemon import blackout
from virtcpr.actions.records.configuration import configured
from virtcpr.errors import HostError, ParseError, Unsettled, UsageError, VirtcprError
from virtcpr.host.files import config_files
from virtcpr.host.processes.interrupt import Interrupt
from virtcpr.host.system import packages
from virtcpr.model import (
    AutoReport,
    DomainReport,
    ExitCode,
    Mode,
    Outlook,
    PreparedDomain,
    PrepareReport,
    Readying,
    Request,
    Result,
    Rollout,
    Side,
    UpgradeReport,
)
from virtcpr.plan import auto as judging
from virtcpr.plan.auto import AutoPlan, Candidate
from virtcpr.plan.policy import Auto, Policy
from virtcpr.plan.windows import Moment, Window

OLD, NEW = Side("10.0.2", 1), Side("10.0.13")
APPLY = Policy(auto=Auto.APPLY, parallel=3)
NOON = Moment(2026, 11, 28, 5, 12 * 60)
CLOSED = replace(APPLY, windows=(Window(0, 1),))


def planned(*names: str, rules: Policy = APPLY) -> AutoPlan:
    found = [Candidate(Outlook(name, name, OLD, NEW, mode=Mode.TRANSFER)) for name in names]
    return judging.plan(found, rules, NOON)


@dataclass
class Upgrades:
    """Stands in for the upgrades: ``becomes`` says what comes of a domain, ``requests`` what was asked for."""

    becomes: dict[str, Result] = field(default_factory=dict)
    refuses: VirtcprError | None = None
    requests: list[Request] = field(default_factory=list)
    connection: object = None
    busy: str | None = None
    looking: Callable[[], object] = lambda: None
    moving: Callable[[Interrupt], object] = lambda _: None

    @contextmanager
    def open(self, request: Request) -> Iterator[Upgrades]:
        if self.refuses is not None:
            raise self.refuses
        self.requests.append(request)
        self.interrupt = Interrupt()
        self.looking()
        yield self

    def refuse_jobs(self, connection: object) -> None:
        if self.busy is not None:
            raise HostError(self.busy)

    def run(self, watch: object) -> UpgradeReport:
        with self.interrupt:
            self.moving(self.interrupt)
        uuids = self.requests[-1].domains
        found = tuple(DomainReport(u, u, self.becomes.get(u, Result.UPGRADED), Mode.TRANSFER, OLD, NEW) for u in uuids)
        return UpgradeReport(found, ExitCode.DONE, 100.0, (f"note {len(self.requests)}",))


@pytest.fixture
def upgrades(monkeypatch: pytest.MonkeyPatch) -> Upgrades:
    made = Upgrades()
    monkeypatch.setattr(auto, "open_upgrade", made.open)
    monkeypatch.setattr(auto, "this_moment", lambda: NOON)
    monkeypatch.setattr(blackout, "refuse_jobs", made.refuse_jobs)
    return made


def run(plan: AutoPlan, rules: Policy = APPLY) -> AutoReport:
    return auto.Automatic(rules, None, plan).run(lambda _: None)


def actions(report: AutoReport) -> str:
    return " ".join(f"{one.name}:{one.action.value}" for one in report.domains)


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


# What it does about the note.


@dataclass
class Host:
    """Directories and answers that stand in for the host's; ``told`` is what the administrator heard."""

    run: Path
    rules: Policy = APPLY
    plan: AutoPlan = field(default_factory=lambda: planned("a"))
    fails: VirtcprError | None = None
    busy: str | None = None
    timer: list[str] = field(default_factory=list)
    told: list[AutoReport] = field(default_factory=list)
    looks: int = 0

    def trigger(self) -> None:
        (self.run / "pending").write_text("qemu\n")

    @property
    def pending(self) -> bool:
        assert not (self.run / "pending.taken").exists()
        return (self.run / "pending").exists()

    def auto(self, *, pending: bool = True, dry_run: bool = False) -> AutoReport:
        with auto.open_auto(None, pending=pending, dry_run=dry_run) as automatic:
            report = automatic.run(lambda _: None)
            automatic.tell(report, "{}", "")
        return report

    def look(self, *_: object) -> AutoPlan:
        self.looks += 1
        if self.fails is not None:
            raise self.fails
        return self.plan


@pytest.fixture
def host(tmp_path: Path, upgrades: Upgrades, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(auto, "Note", lambda: Note(tmp_path))
    monkeypatch.setattr(auto, "configured", lambda: made.rules)
    monkeypatch.setattr(auto, "_look", made.look)
    monkeypatch.setattr(packages, "await_quiet", lambda _: made.busy)
    monkeypatch.setattr(packages, "busy", lambda: made.busy)
    monkeypatch.setattr(pending, "SYSTEMD", tmp_path)
    monkeypatch.setattr(pending, "run", lambda argv: made.timer.append(argv[2]))
    monkeypatch.setattr(notify, "tell", lambda _rules, report, *_, **_kw: made.told.append(report))
    made.trigger()
    return made


def test_it_acts_and_the_timer_ends(host: Host) -> None:
    report = host.auto()
    assert actions(report) == "a:upgraded"
    assert (host.pending, host.timer, host.told) == (False, ["stop"], [report])


def test_what_waits_after_a_run_by_hand_is_taken_up_by_the_timer(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    (host.run / "pending").unlink()
    monkeypatch.setattr(auto.Automatic, "waits", True)
    report = host.auto(pending=False)
    assert report.notes[-1] == auto.LATER
    assert (host.pending, host.timer) == (True, ["start"])
    assert pending.TOLD in (host.run / "pending").read_text()
    monkeypatch.setattr(pending, "SYSTEMD", host.run / "none")
    assert host.auto(pending=False).notes[-1] == auto.NEVER


def test_a_run_by_hand_that_leaves_nothing_starts_no_timer(host: Host) -> None:
    (host.run / "pending").unlink()
    assert auto.LATER not in host.auto(pending=False).notes
    assert (host.pending, host.timer) == (False, [])


def test_a_failure_of_a_guest_is_not_tried_again(host: Host, upgrades: Upgrades) -> None:
    upgrades.becomes["a"] = Result.ROLLED_BACK
    assert host.auto().exit_code is ExitCode.ROLLED_BACK
    assert (host.pending, host.timer) == (False, ["stop"])


def test_where_nothing_is_pending(host: Host) -> None:
    (host.run / "pending").unlink()
    report = host.auto()
    assert (report.notes, report.domains, host.looks) == (("nothing is pending",), (), 0)
    assert (host.timer, host.told) == (["stop"], [])


def test_off_looks_at_nothing(host: Host) -> None:
    host.rules = Policy(auto=Auto.OFF)
    for by_trigger in (True, False):
        report = host.auto(pending=by_trigger)
        assert (report.notes, host.looks) == (('auto is "off": nothing was looked at',), 0)
    assert (host.pending, host.timer, host.told) == (False, ["stop"], [])


def test_off_since_the_upgrade_began(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def upgraded(_: object) -> None:
        host.rules = Policy(auto=Auto.OFF)

    monkeypatch.setattr(packages, "await_quiet", upgraded)
    host.auto()
    assert (host.looks, host.pending) == (0, False)


def test_package_managers_at_work(host: Host) -> None:
    host.busy = "/var/lib/dpkg/lock"
    report = host.auto()
    assert report.notes == ("package managers are at work: /var/lib/dpkg/lock",)
    assert (report.exit_code, host.pending, host.timer, host.looks) == (ExitCode.DONE, True, ["start"], 0)
    assert host.told == []
    by_hand = host.auto(pending=False)
    assert by_hand.notes == ("package managers are at work: /var/lib/dpkg/lock is held; nothing was done",)
    assert host.looks == 0


@pytest.mark.parametrize("error", [HostError("libvirt's daemon doesn't answer"), Unsettled("an earlier swap")])
def test_what_keeps_it_from_looking_is_tried_again(
    host: Host, error: VirtcprError, caplog: pytest.LogCaptureFixture
) -> None:
    host.fails = error
    report = host.auto()
    assert (report.notes, report.exit_code, host.pending) == ((error.message,), ExitCode.DONE, True)
    assert error.message in caplog.text
    with pytest.raises(type(error)):
        host.auto(pending=False)


@pytest.mark.parametrize("error", [UsageError("qemu:///session"), ParseError("a.toml"), KeyboardInterrupt()])
def test_errors_leave_the_note(host: Host, error: VirtcprError, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> Policy:
        raise error

    monkeypatch.setattr(auto, "configured", fails)
    with pytest.raises(type(error)):
        host.auto()
    assert (host.pending, host.timer) == (True, ["start"])


def test_a_closed_window_is_told_once(host: Host) -> None:
    host.rules = CLOSED
    host.plan = planned("a", rules=CLOSED)
    assert actions(host.auto()) == "a:waiting"
    assert (host.pending, len(host.told), host.looks) == (True, 1, 1)
    report = host.auto()
    assert (report.domains, report.notes) == ((), ("guests are only moved 00:00-00:01",))
    assert (host.pending, len(host.told), host.looks) == (True, 1, 1)  # it isn't even looked
    host.trigger()
    host.auto()
    assert len(host.told) == 2  # another upgrade
    host.rules, host.plan = APPLY, planned("a")
    assert actions(host.auto()) == "a:upgraded"
    assert (host.pending, len(host.told)) == (False, 3)


def test_what_waits_for_another_virtcpr_is_told_once(host: Host, upgrades: Upgrades) -> None:
    upgrades.refuses = HostError("another virtcpr is at work")
    host.auto()
    host.auto()
    assert (host.pending, len(host.told), host.looks) == (True, 1, 2)
    upgrades.refuses = None
    host.auto()
    assert (host.pending, len(host.told)) == (False, 2)


def test_a_trigger_that_comes_meanwhile_is_not_lost(host: Host, upgrades: Upgrades) -> None:
    upgrades.moving = lambda _: host.trigger()
    host.auto()
    assert (host.pending, host.timer) == (True, ["stop", "start"])


def test_by_hand_the_note_is_left_alone(host: Host) -> None:
    host.auto(pending=False)
    with auto.open_auto(None, pending=True, dry_run=True) as automatic:
        assert automatic.moving == ("a",)
    assert (host.pending, host.timer) == (True, [])


def test_only_root(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostError, match="only root can move guests"):
        host.auto()


def test_the_configuration_is_read_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_files, "documents", lambda: [("virtcpr.toml", 'auto = "off"')])
    assert configured().auto is Auto.OFF
    now, said = datetime.now(), candidates.this_moment()
    assert abs(datetime(said.year, said.month, said.day) + timedelta(minutes=said.minute) - now) < timedelta(minutes=2)
    assert said.weekday == datetime(said.year, said.month, said.day).weekday()
