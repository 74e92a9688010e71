"""``save``: which guests are taken, what keeps RAM in its file, who is refused, and that one doesn't spoil another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from typing import cast

import pytest

from tests.unit.support.reboot_stage import DOMAIN, NAME, WAITS, FakeConnection, FakeDomain, RebootStage
from virtcpr.actions import save
from virtcpr.actions.daemon import blackout, qemu_hook
from virtcpr.actions.rehearsal import rehearse
from virtcpr.actions.save import SaveBatch
from virtcpr.domain.facts import DomainFacts
from virtcpr.errors import HostError
from virtcpr.host.files import filesystems
from virtcpr.host.libvirt import daemon, hooks
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.system.lock import Lock
from virtcpr.model import ExitCode, Keeping, KeptDomain, Mode, Rehearsal, Request, Severity, Trial
from virtcpr.plan.reboot.recovery import Stage

Open = Callable[..., SaveBatch]
# Every call to libvirt of a save; until the third nothing is done to the guest.
CALLS = (
    "find",
    "xml",
    "query-status",
    "query-memdev",
    "job",
    "query-migrate",
    "query-yank",
    "migrate-set-parameters",
    "migrate-set-capabilities",
    "query-migrate",
    "getfd",
    "migrate",
    "query-migrate",
    "xml",
    "query-cpus-fast",
    "query-status",
    "active",
)
ALL = Request(every=True)


@pytest.fixture
def opened(reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch) -> Open:
    """The one guest of the stage, on a host with room for it."""
    agent: list[bool | None] = [True]
    trial = [Trial.GO]

    def rehearsed_as(parts: Iterable[rehearse.Case], mode: Mode) -> None:
        assert mode is Mode.REBOOT
        for part in parts:
            part.result = Rehearsal(trial[0], "vring.num 1024")

    class Looks:
        def __init__(self, *, ping: bool) -> None:
            self.ping = ping

        def facts(self, _: object) -> DomainFacts:
            return replace(reboot_stage.world.facts, agent=agent[0] if self.ping else None)

    monkeypatch.setattr(save, "Probe", Looks)
    monkeypatch.setattr(save, "chosen", lambda *_: [FakeDomain(reboot_stage.world)])
    monkeypatch.setattr(blackout, "guarded", lambda *, required: nullcontext())
    monkeypatch.setattr(rehearse, "rehearse", rehearsed_as)
    monkeypatch.setattr(daemon, "host_goes_down", lambda: True)
    monkeypatch.setattr(hooks, "put", lambda _: None)

    def open_(
        request: Request = ALL,
        *,
        room: int = 1 << 40,
        lasts: bool = True,
        answers: bool | None = True,
        rehearsed: Trial = Trial.GO,
    ) -> SaveBatch:
        trial[0] = rehearsed
        monkeypatch.setattr(filesystems, "survives", lambda _: lasts)
        monkeypatch.setattr(filesystems, "free_bytes", lambda _: room)
        agent[0] = answers
        return SaveBatch(request, cast(Connection, FakeConnection(reboot_stage.world)))

    return open_


def run(batch: SaveBatch) -> tuple[KeptDomain, ExitCode]:
    report = batch.run(lambda _: None)
    (one,) = report.domains
    return one, report.exit_code


@pytest.mark.parametrize("lasts", [True, False])
def test_ram_stays_where_it_outlives_the_host(reboot_stage: RebootStage, opened: Open, lasts: bool) -> None:
    batch = opened(lasts=lasts)
    assert (batch.outlooks[0].result, batch.outlooks[0].in_place) == (Keeping.SAVED, lasts)
    assert reboot_stage.left() == set()
    one, code = run(batch)
    assert (one.result, code) == (Keeping.SAVED, ExitCode.DONE)
    assert one.qemu == DOMAIN.qemu.version if DOMAIN.qemu else None
    assert one.size == reboot_stage.record.state_path.stat().st_size
    assert one.saved_at == reboot_stage.record.saved.saved_at
    assert [phase.name for phase in one.phases] == ["keep", "save", "end-old"]
    assert reboot_stage.record.saved.ignores_shared is lasts
    assert reboot_stage.left() == (WAITS if lasts else WAITS - {"RAM"})


def test_without_room_nothing_is_begun(reboot_stage: RebootStage, opened: Open) -> None:
    one, code = run(opened(room=1 << 20, lasts=False))
    assert (one.result, code) == (Keeping.BLOCKED, ExitCode.BLOCKED)
    assert [finding.code for finding in one.findings] == ["room"]
    assert (reboot_stage.world.said, reboot_stage.left()) == ([], set())


def test_room_is_counted_for_all_of_them(opened: Open) -> None:
    plan = opened(lasts=False).guests[0].plan
    assert plan is not None
    batch = opened(lasts=False, room=plan.needs_kib * 1024 * 2 - 1)
    batch.guests *= 2
    batch.guests[1:] = [replace(batch.guests[0])]
    batch._refuse_without_room()
    assert [one.result for one in batch.outlooks] == [Keeping.SAVED, Keeping.BLOCKED]


@pytest.mark.parametrize("answers", [False, None])
def test_a_guest_that_cannot_suspend_itself_is_refused(opened: Open, answers: bool | None) -> None:
    (one,) = opened(replace(ALL, suspend=True), answers=answers).outlooks
    assert (one.result, [finding.code for finding in one.findings]) == (Keeping.BLOCKED, ["agent"])


def test_what_the_installed_qemu_cannot_load_is_not_saved(reboot_stage: RebootStage, opened: Open) -> None:
    one, code = run(opened(rehearsed=Trial.NO_GO))
    assert (one.result, code) == (Keeping.BLOCKED, ExitCode.BLOCKED)
    assert [finding.code for finding in one.findings] == ["rehearsal"]
    assert "vring.num 1024" in one.findings[0].message
    assert (reboot_stage.world.said, reboot_stage.left()) == ([], set())
    assert run(opened(replace(ALL, rehearse=False), rehearsed=Trial.NO_GO))[0].result is Keeping.SAVED


def test_what_could_not_be_rehearsed_is_saved_with_a_warning(opened: Open) -> None:
    one, code = run(opened(rehearsed=Trial.UNSURE))
    assert (one.result, code) == (Keeping.SAVED, ExitCode.DONE)
    assert [(finding.code, finding.severity) for finding in one.findings] == [("rehearsal-unsure", Severity.WARNING)]


def test_a_guest_suspends_itself_first(reboot_stage: RebootStage, opened: Open) -> None:
    one, _ = run(opened(replace(ALL, suspend=True)))
    assert [phase.name for phase in one.phases] == ["keep", "suspend", "save", "end-old"]
    assert reboot_stage.record.saved.wake


def test_a_signal_lets_it_run_on(reboot_stage: RebootStage, opened: Open) -> None:
    batch = opened()
    batch.interrupt.requested = True
    one, code = run(batch)
    assert (one.result, code) == (Keeping.ROLLED_BACK, ExitCode.ROLLED_BACK)
    assert one.findings[0].message.startswith("interrupted; the guest runs on in old QEMU")
    assert reboot_stage.world.now.status == "running"
    assert reboot_stage.left() == set()


@pytest.mark.parametrize(
    ("call", "result", "code"),
    [
        ("migrate", Keeping.ROLLED_BACK, ExitCode.ROLLED_BACK),
        ("active", Keeping.UNKNOWN, ExitCode.UNKNOWN),
    ],
)
def test_what_failed_says_how_the_guest_is(
    reboot_stage: RebootStage, opened: Open, call: str, result: Keeping, code: ExitCode
) -> None:
    hear = reboot_stage.world.hear

    def failing(what: str) -> None:
        hear(what)
        if what == call:
            raise HostError(f"{what} failed")

    reboot_stage.world.hear = failing  # type: ignore[method-assign]
    one, ended = run(opened())
    assert (one.result, ended) == (result, code)
    assert one.findings[0].remedy
    assert one.phases


def test_a_guest_that_ended_has_failed(reboot_stage: RebootStage, opened: Open) -> None:
    batch = opened()
    reboot_stage.world.at, reboot_stage.world.then = 3, reboot_stage.world.kill
    one, code = run(batch)
    assert (one.result, code) == (Keeping.FAILED, ExitCode.FAILED)
    assert reboot_stage.stage is None


@pytest.mark.parametrize("number", range(3, len(CALLS)), ids=CALLS[3:])
def test_libvirt_that_dies_and_comes_back(reboot_stage: RebootStage, opened: Open, number: int) -> None:
    """Nobody has to call recover: the guest isn't left paused."""
    batch = opened()
    reboot_stage.world.at, reboot_stage.world.then = number, reboot_stage.world.fall_silent
    one, code = run(batch)
    assert one.findings[-1].code == "recovered"
    assert not one.findings[0].remedy
    if CALLS[number] == "active":
        assert (one.result, code) == (Keeping.SAVED, ExitCode.DONE)
        assert {finding.severity for finding in one.findings} == {Severity.WARNING}
        assert (reboot_stage.stage, reboot_stage.left()) == (Stage.SAVED, WAITS)
    else:
        assert (one.result, code) == (Keeping.ROLLED_BACK, ExitCode.ROLLED_BACK)
        assert one.findings[-1].message == "settled: the guest runs on"
        assert (reboot_stage.world.now.status, reboot_stage.left()) == ("running", set())


def test_an_old_qemu_that_dies_when_its_state_is_whole(reboot_stage: RebootStage, opened: Open) -> None:
    batch = opened()
    reboot_stage.world.at, reboot_stage.world.then = CALLS.index("query-cpus-fast"), reboot_stage.world.kill
    one, code = run(batch)
    assert (one.result, code) == (Keeping.SAVED, ExitCode.DONE)
    assert f"its state waits: 'virtcpr restore {NAME}' lets it go on" in one.findings[-1].message
    assert (reboot_stage.stage, reboot_stage.left()) == (Stage.SAVED, WAITS)


def test_a_defect_is_that_guests_own(reboot_stage: RebootStage, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("oh")

    batch = opened()
    monkeypatch.setattr(FakeDomain, "job", broken)
    one, code = run(batch)
    assert (one.result, code) == (Keeping.ROLLED_BACK, ExitCode.ROLLED_BACK)
    (finding,) = one.findings
    assert finding.message.startswith(f"{NAME}: ZeroDivisionError: oh; the guest runs on in old QEMU (process ")
    assert (reboot_stage.world.now.status, reboot_stage.left()) == ("running", set())


RBD = "<disk type='network'><source protocol='rbd' name='pool/a'/><target dev='vdx'/></disk>"


def test_a_disk_that_nobody_can_tell_of_is_told_before(reboot_stage: RebootStage, opened: Open) -> None:
    """Before it is saved: to restore it takes somebody's word."""
    world = reboot_stage.world
    world.facts = replace(world.facts, xml=world.facts.xml.replace("</devices>", f"{RBD}</devices>"))
    (outlook,) = opened().outlooks
    (told,) = [finding for finding in outlook.findings if finding.code == "disk-untold"]
    assert (outlook.result, told.severity, told.modes) == (Keeping.SAVED, Severity.WARNING, (Mode.REBOOT,))
    assert "its disk vdx (rbd pool/a) was written to while its state waits" in told.message
    assert f"virtcpr restore --disks-unchanged {NAME}" in told.remedy


def test_disks_that_are_files_are_told_nothing_of(opened: Open) -> None:
    assert "disk-untold" not in {finding.code for finding in opened().outlooks[0].findings}


@pytest.mark.parametrize(("goes_down", "result"), [(False, Keeping.FAILED), (True, Keeping.SAVED)])
def test_where_libvirt_may_not_run_the_hook_nothing_is_saved(
    opened: Open, monkeypatch: pytest.MonkeyPatch, goes_down: bool, result: Keeping
) -> None:
    """It couldn't be restored; but if the host goes down, the guest would end otherwise."""

    def forbidden(*_: object) -> None:
        raise hooks.Forbidden("libvirt's daemon may not run it")

    batch = opened()
    monkeypatch.setattr(daemon, "host_goes_down", lambda: goes_down)
    monkeypatch.setattr(hooks, "put", forbidden)
    monkeypatch.setattr(qemu_hook, "ready", forbidden)
    report = batch.run(lambda _: None)
    assert [domain.result for domain in report.domains] == [result]
    text = report.notes[0] if goes_down else report.domains[0].findings[-1].message
    assert text.startswith("libvirt's daemon may not run it; ")
    assert text.endswith("restore it" if goes_down else "nothing was touched")


def test_a_daemon_that_does_not_come_back_is_told_of(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was restarted to find the hook."""

    def down(*_: object) -> None:
        raise blackout.DaemonDown("it doesn't start", hint="by hand")

    batch = opened()
    monkeypatch.setattr(daemon, "host_goes_down", lambda: False)
    monkeypatch.setattr(qemu_hook, "ready", down)
    report = batch.run(lambda _: None)
    assert report.domains[0].findings[-1].message == "it doesn't start; nothing was touched"
    assert report.exit_code is ExitCode.UNKNOWN


@pytest.mark.parametrize("down", [False, True])
def test_another_virtcpr_is_waited_for_when_the_host_goes_down(monkeypatch: pytest.MonkeyPatch, *, down: bool) -> None:
    """It is being stopped, and nobody would save the guests later."""
    waited = []

    class Busy(Lock):
        def __init__(self, *, wait: bool = False) -> None:
            waited.append(wait)

        def __enter__(self) -> Lock:
            raise HostError("another virtcpr is at work")

    monkeypatch.setattr(save, "Lock", Busy)
    monkeypatch.setattr(daemon, "host_goes_down", lambda: down)
    with pytest.raises(HostError, match="another virtcpr"), save.open_save(ALL):
        pass
    assert waited == [down]
