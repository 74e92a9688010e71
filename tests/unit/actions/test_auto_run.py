"""`auto`: when it acts, and what becomes of the note that it acts on."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.unit.support.upgrades import APPLY, Upgrades, actions, planned
from virtcpr.actions.auto import candidates, notify, pending
from virtcpr.actions.auto import run as auto
from virtcpr.actions.auto.pending import Note
from virtcpr.actions.records.configuration import configured
from virtcpr.errors import HostError, ParseError, Unsettled, UsageError, VirtcprError
from virtcpr.host.files import config_files
from virtcpr.host.system import packages
from virtcpr.model import (
    AutoReport,
    ExitCode,
    Result,
)
from virtcpr.plan.auto import AutoPlan
from virtcpr.plan.policy import Auto, Policy
from virtcpr.plan.windows import Window

CLOSED = replace(APPLY, windows=(Window(0, 1),))


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
