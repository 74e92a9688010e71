"""``restore``: which guests it takes, what it refuses before anything is touched, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.support.reboot_stage import NAME, STATE, UUID, WAITS, RebootStage, Shelf
from virtcpr.actions import restore
from virtcpr.actions.daemon import qemu_hook
from virtcpr.actions.reboot import settle, strip
from virtcpr.actions.reboot.restore_guest import Restoring
from virtcpr.actions.records import saves
from virtcpr.actions.restore import RestoreBatch
from virtcpr.errors import HostError, Unsettled, UsageError
from virtcpr.host.libvirt import daemon
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.processes import guard
from virtcpr.model import ExitCode, Keeping, KeptDomain, Progress, Recovered, Request, Settled
from virtcpr.plan import outcome
from virtcpr.plan.reboot.recovery import Stage

Open = Callable[..., RestoreBatch]
ALL = Request(every=True)


@pytest.fixture
def opened(reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch) -> Open:
    """The host's own places are this stage's."""
    directory = reboot_stage.world.directory / "saved"
    for function in (saves.waiting, saves.load, saves.discard):
        monkeypatch.setattr(function, "__defaults__", (directory,))

    class Post:
        def disarm(self) -> None:
            pass

    class Running:
        recipe: dict[str, object] = {}  # noqa: RUF012

    monkeypatch.setattr(restore, "Emulators", Shelf)
    monkeypatch.setattr(qemu_hook, "ready", lambda connection: connection)
    monkeypatch.setattr(guard, "arm", lambda _: Post())
    monkeypatch.setattr(daemon, "running", Running)
    monkeypatch.setattr(strip, "strip_in_blackout", lambda connection, *_: strip.Stripped(connection, 12.5))

    def open_(request: Request = ALL, *, discard: bool = False) -> RestoreBatch:
        return RestoreBatch(request, reboot_stage.connection, discard=discard)

    return open_


def run(batch: RestoreBatch) -> tuple[KeptDomain, ExitCode]:
    report = batch.run(lambda _: None)
    (one,) = report.domains
    return one, report.exit_code


@pytest.mark.parametrize("request_", [ALL, Request((NAME,)), Request((UUID, NAME))])
def test_it_is_restored(reboot_stage: RebootStage, opened: Open, request_: Request) -> None:
    reboot_stage.saved()
    heard: list[Progress] = []
    batch = opened(request_)
    (outlook,) = batch.outlooks
    assert (outlook.result, outlook.in_place, outlook.size) == (
        Keeping.RESTORED,
        True,
        len(b"QEVM and what follows") * 500,
    )
    report = batch.run(heard.append)
    assert (report.domains[0].result, report.exit_code, report.blackout_ms) == (Keeping.RESTORED, ExitCode.DONE, 12.5)
    assert [one.phase for one in heard] == ["start", "load", "resume", "done"]
    assert reboot_stage.world.now.status == "running"


def test_what_is_not_saved_cannot_be_restored(opened: Open) -> None:
    assert opened().outlooks == ()
    with pytest.raises(UsageError, match="domain 'other' has no saved state") as raised:
        opened(Request(("other",)))
    assert raised.value.hint == "'virtcpr restore --all' restores all"


def test_what_is_not_sound_is_blocked_before_anything_is_touched(reboot_stage: RebootStage, opened: Open) -> None:
    reboot_stage.saved().state_path.write_bytes(b"x")
    batch = opened()
    assert batch.outlooks[0].result is Keeping.BLOCKED
    one, code = run(batch)
    assert (one.result, code) == (Keeping.BLOCKED, ExitCode.BLOCKED)
    assert "its state is cut off" in one.findings[0].message
    assert "start" not in reboot_stage.world.said
    assert reboot_stage.left() == WAITS


def test_no_state_is_read_before_its_turn(reboot_stage: RebootStage, opened: Open, digested: list[Path]) -> None:
    """One after the other they would keep every guest down, until systemd's patience ends."""
    reboot_stage.saved()
    batch = opened()
    assert digested == []
    assert run(batch)[0].result is Keeping.RESTORED
    assert len(digested) == 1


def test_what_is_damaged_is_blocked_in_its_turn(reboot_stage: RebootStage, opened: Open) -> None:
    reboot_stage.saved().state_path.write_bytes(STATE[:-1] + b"x")
    one, code = run(opened())
    assert (one.result, code) == (Keeping.BLOCKED, ExitCode.BLOCKED)
    assert "its state was changed since: the checksum differs" in one.findings[0].message
    assert "start" not in reboot_stage.world.said
    assert reboot_stage.left() == WAITS


def test_one_that_may_have_run_is_not_restored(reboot_stage: RebootStage, opened: Open) -> None:
    reboot_stage.saved().write(Stage.RESUMING)
    one, code = run(opened())
    assert (one.result, code) == (Keeping.BLOCKED, ExitCode.BLOCKED)
    assert one.findings[0].message == f"{NAME} isn't waiting for a restore (resuming, gone)"
    assert one.findings[0].remedy == "virtcpr recover --all settles it"


def test_one_that_cannot_be_restored_waits_on(reboot_stage: RebootStage, opened: Open) -> None:
    reboot_stage.saved()
    batch = opened()
    reboot_stage.world.hook = False
    one, code = run(batch)
    assert (one.result, code) == (Keeping.WAITING, ExitCode.FAILED)
    assert "libvirt didn't run virtcpr's hook; its state waits in" in one.findings[0].message
    assert reboot_stage.left() == WAITS


def test_a_signal_before_its_turn(reboot_stage: RebootStage, opened: Open) -> None:
    reboot_stage.saved()
    batch = opened()
    batch.interrupt.requested = True
    one, code = run(batch)
    assert (one.result, code) == (Keeping.WAITING, ExitCode.FAILED)
    assert one.findings[0].message == f"{NAME}: interrupted before its turn; its state waits"
    assert reboot_stage.left() == WAITS


def test_without_the_hook_nobody_is_started(
    reboot_stage: RebootStage, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no(_: object) -> None:
        raise HostError("/etc/libvirt/hooks/qemu.d/virtcpr isn't virtcpr's", hint="move it out of the way")

    reboot_stage.saved()
    monkeypatch.setattr(qemu_hook, "ready", no)
    one, _ = run(opened())
    assert one.result is Keeping.WAITING
    assert one.findings[0].message.endswith("isn't virtcpr's; nothing was touched, and its state waits")
    assert one.findings[0].remedy == "move it out of the way"
    assert "start" not in reboot_stage.world.said


def test_another_emulator_is_noted(reboot_stage: RebootStage, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    reboot_stage.saved()
    reboot_stage.world.hook = False
    run(opened(replace(ALL, emulator="/opt/qemu")))
    assert reboot_stage.record.saved.emulator == "/opt/qemu"


# Giving up.


def test_what_is_saved_is_given_up_with_its_ram(reboot_stage: RebootStage, opened: Open) -> None:
    reboot_stage.saved()
    one, code = run(opened(discard=True))
    assert (one.result, code) == (Keeping.DISCARDED, ExitCode.DONE)
    assert reboot_stage.left() == set()
    assert "start" not in reboot_stage.world.said


def test_so_is_what_cannot_be_understood(reboot_stage: RebootStage, opened: Open) -> None:
    path: Path = reboot_stage.saved().directory / "record.json"
    path.write_text(path.read_text()[:-20])
    (outlook,) = opened().outlooks
    assert (outlook.name, outlook.result) == (NAME, Keeping.BLOCKED)
    assert outlook.findings[0].remedy == saves.DISCARD.format(name=UUID)
    one, _ = run(opened(Request((UUID,)), discard=True))
    assert one.result is Keeping.DISCARDED
    assert reboot_stage.left() == set()


def test_not_while_a_process_of_it_lives(reboot_stage: RebootStage, opened: Open) -> None:
    reboot_stage.saved()
    reboot_stage.world.start("-incoming", "defer", status="inmigrate")
    one, code = run(opened(discard=True))
    assert (one.result, code) == (Keeping.BLOCKED, ExitCode.BLOCKED)
    assert one.findings[0].message == f"{NAME} runs; its saved state can't be discarded"
    assert reboot_stage.left() == WAITS


@pytest.mark.parametrize(
    ("results", "code"),
    [
        (set(), ExitCode.DONE),
        ({Keeping.RESTORED}, ExitCode.DONE),
        ({Keeping.DISCARDED}, ExitCode.DONE),
        ({Keeping.SAVED, Keeping.BLOCKED}, ExitCode.SOME),
        ({Keeping.RESTORED, Keeping.WAITING}, ExitCode.SOME),
        ({Keeping.SAVED, Keeping.UNKNOWN}, ExitCode.UNKNOWN),
        ({Keeping.BLOCKED}, ExitCode.BLOCKED),
        ({Keeping.BLOCKED, Keeping.ROLLED_BACK}, ExitCode.ROLLED_BACK),
        ({Keeping.WAITING, Keeping.BLOCKED}, ExitCode.FAILED),
        ({Keeping.FAILED}, ExitCode.FAILED),
    ],
)
def test_exit_codes(results: set[Keeping], code: ExitCode) -> None:
    assert outcome.exit_code(results) is code


def test_a_start_that_libvirt_died_in_is_settled_when_the_daemon_has_forgotten_it(
    reboot_stage: RebootStage, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    reboot_stage.saved()
    batch = opened()
    outcomes = iter([None, Recovered(NAME, UUID, "starting", "gone", "gone", Settled.WAITING, "its state waits")])
    done: list[str] = []

    def at_once(_: str) -> Recovered | None:
        done.append("settle")
        return next(outcomes)

    def stripped(connection: Connection, *_: object) -> strip.Stripped:
        done.append("strip")
        return strip.Stripped(connection, 12.5)

    def failing(_: object) -> None:
        raise Unsettled("libvirt died", hint="recover")

    monkeypatch.setattr(settle, "settle_now", at_once)
    monkeypatch.setattr(strip, "strip_in_blackout", stripped)
    monkeypatch.setattr(Restoring, "run", lambda self, **_: failing(self))
    one, code = run(batch)
    assert done == ["settle", "strip", "settle", "strip"]
    assert (one.result, code) == (Keeping.WAITING, ExitCode.FAILED)
    assert [finding.message for finding in one.findings] == ["libvirt died", "settled: its state waits"]


RBD = "<disk type='network'><source protocol='rbd' name='pool/a'/><target dev='vdx'/></disk>"


def on_rbd(stage: RebootStage) -> None:
    stage.world.facts = replace(stage.world.facts, xml=stage.world.facts.xml.replace("</devices>", f"{RBD}</devices>"))


def test_a_guest_on_disks_that_nobody_can_tell_of_waits_for_somebody_s_word(
    reboot_stage: RebootStage, opened: Open
) -> None:
    on_rbd(reboot_stage)
    reboot_stage.saved()
    one, code = run(opened())
    assert (one.result, code) == (Keeping.BLOCKED, ExitCode.BLOCKED)
    assert "nobody can tell whether vdx (rbd pool/a) was written to since it was saved" in one.findings[0].message
    assert reboot_stage.left() == WAITS
    one, code = run(opened(replace(ALL, disks_unchanged=True)))
    assert (one.result, code) == (Keeping.RESTORED, ExitCode.DONE)
