"""Restoring one guest, failed at every call: until new may run it the file waits, then it is never used again."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.support.reboot_stage import DOMAIN, NAME, STATE, WAITS, FakeConnection, RebootStage, private_ram
from virtcpr.actions.reboot import restore_guest, validate
from virtcpr.actions.reboot.restore_guest import Restoring
from virtcpr.actions.records import pending_strips, saves
from virtcpr.actions.records.saves import Record
from virtcpr.errors import HostError, Unsettled
from virtcpr.host.files import ram_files
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.stream import Stream
from virtcpr.model import Settled
from virtcpr.plan.reboot.recovery import Purpose, Stage

# Every call to libvirt of a restore, of a guest that suspended itself before.
CALLS = (
    "find", "active", "start", "migrate-set-parameters", "migrate-set-capabilities", "getfd", "migrate-incoming",
    "query-migrate", "query-status", "query-status", "resume", "query-status", "wake", "query-migrate", "query-yank",
    "migrate-set-capabilities", "migrate-set-parameters",
)  # fmt: skip
NAMES = [f"{number} {call}" for number, call in enumerate(CALLS)]
LOADED = 9  # the first call after the record says that new QEMU may run the guest


def numbers(start: int, end: int | None = None) -> Callable[..., object]:
    return pytest.mark.parametrize("number", range(len(CALLS))[start:end], ids=NAMES[start:end])


def waits(stage: RebootStage) -> None:
    """Nothing of the guest runs, and everything of it is there."""
    assert not stage.world.active()
    assert (stage.stage, stage.left()) == (Stage.SAVED, WAITS)


def runs(stage: RebootStage) -> None:
    """The guest runs in new QEMU, as libvirt expects it, and nothing is left but the note on libvirt's record."""
    qemu = stage.world.now
    assert (qemu.status, qemu.asleep, qemu.mode) == ("running", False, "normal")
    assert qemu.on == frozenset({"events", "return-path"})
    assert stage.left() == set()
    assert [note.uuid for note in pending_strips.noted()] == [DOMAIN.uuid]
    assert (stage.world.ram / f"{qemu.number}-{NAME}/pc.ram").exists()


def living(stage: RebootStage) -> int:
    return sum(child.poll() is None for child in stage.world.children)


def at(stage: RebootStage, number: int, then: Callable[[], None]) -> None:
    stage.world.at, stage.world.then = number, then


@pytest.mark.parametrize("read", [True, False])
@pytest.mark.parametrize("purpose", Purpose)
def test_a_guest_out_of_its_file(reboot_stage: RebootStage, purpose: Purpose, read: bool) -> None:
    one = reboot_stage.saved(purpose, suspend=True)
    reboot_stage.steps.clear()
    assert reboot_stage.restore(one, read=read) is None
    assert tuple(reboot_stage.world.said) == CALLS
    assert reboot_stage.steps == ["start", "load", "resume"]
    runs(reboot_stage)
    assert living(reboot_stage) == 1


def test_a_qemu_of_before_9_1_loads_it(reboot_stage: RebootStage) -> None:
    """Scripted: it has no exit-on-error, and refuses it."""
    one = reboot_stage.saved(Purpose.UPGRADE)
    reboot_stage.world.new_exit_on_error = False
    assert reboot_stage.restore(one, emulator=replace(DOMAIN.emulator, exit_on_error=False)) is None
    assert reboot_stage.world.now.status == "running"


def test_if_it_cannot_it_ends_and_the_file_waits(reboot_stage: RebootStage) -> None:
    one = reboot_stage.saved(Purpose.UPGRADE)
    one.state_path.write_bytes(STATE[:-1] + b"x")
    reboot_stage.world.new_exit_on_error = False
    old = replace(DOMAIN.emulator, exit_on_error=False)
    error = reboot_stage.restore(one, read=False, emulator=old)
    assert isinstance(error, HostError)
    assert f"its state waits in {one.directory}" in error.message
    waits(reboot_stage)


@pytest.mark.parametrize("purpose", Purpose)
@numbers(0, LOADED)
def test_an_error_before_new_may_run_it(reboot_stage: RebootStage, number: int, purpose: Purpose) -> None:
    one = reboot_stage.saved(purpose, suspend=True)
    at(reboot_stage, number, reboot_stage.world.refuse)
    error = reboot_stage.restore(one)
    assert isinstance(error, HostError)
    assert f"{CALLS[number]} failed" in error.message
    waits(reboot_stage)
    if number >= CALLS.index("start"):
        assert f"its state waits in {one.directory}" in error.message
        assert error.hint == f"virtcpr restore {NAME}"
    reboot_stage.world.at = None
    assert reboot_stage.restore(reboot_stage.record) is None  # it is repeatable
    runs(reboot_stage)


@numbers(3, LOADED)
def test_what_cannot_be_started_ready_is_started_as_it_was(reboot_stage: RebootStage, number: int) -> None:
    """By whoever restores it next: recovery, too."""
    one = reboot_stage.saved(Purpose.UPGRADE)
    plain = one.saved.xml
    one.write(Stage.SAVED, xml=plain.replace("</domain>", "<!-- ready --></domain>"), plain=plain)
    at(reboot_stage, number, reboot_stage.world.refuse)
    assert isinstance(reboot_stage.restore(one), HostError)
    waits(reboot_stage)
    assert (reboot_stage.record.saved.xml, reboot_stage.record.saved.plain) == (plain, None)
    reboot_stage.world.at = None
    assert reboot_stage.settle().settled is Settled.FORWARD
    assert living(reboot_stage) == 1


@numbers(LOADED)
def test_an_error_after_it(reboot_stage: RebootStage, number: int) -> None:
    one = reboot_stage.saved(suspend=True)
    at(reboot_stage, number, reboot_stage.world.refuse)
    error = reboot_stage.restore(one)
    assert isinstance(error, Unsettled)
    assert f"{CALLS[number]} failed; new QEMU has the guest" in error.message
    assert error.hint == "virtcpr recover --all settles it"
    assert living(reboot_stage) == 1
    assert reboot_stage.stage is Stage.RESUMING
    outcome = reboot_stage.settle()
    assert (outcome.settled, outcome.text) == (Settled.FORWARD, "the guest runs in new QEMU")
    runs(reboot_stage)


@numbers(3, LOADED)
def test_new_dies_before_it_may_run_the_guest(reboot_stage: RebootStage, number: int) -> None:
    one = reboot_stage.saved(suspend=True)
    at(reboot_stage, number, reboot_stage.world.kill)
    assert isinstance(reboot_stage.restore(one), HostError)
    waits(reboot_stage)


def test_new_dies_when_it_has_loaded_and_was_not_told_to_run(
    reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest's file is as good as it was."""
    one = reboot_stage.saved()
    load = Restoring._load

    def loading(self: Restoring) -> None:
        load(self)
        reboot_stage.world.kill()

    monkeypatch.setattr(Restoring, "_load", loading)
    error = reboot_stage.restore(one)
    assert isinstance(error, HostError)
    assert "has ended; its state waits in " in error.message
    waits(reboot_stage)


@numbers(LOADED)
def test_new_dies_after_it(reboot_stage: RebootStage, number: int) -> None:
    """The guest may have written to its disks: its file is of no use any more."""
    one = reboot_stage.saved(suspend=True)
    at(reboot_stage, number, reboot_stage.world.kill)
    assert isinstance(reboot_stage.restore(one), Unsettled)
    assert reboot_stage.stage is Stage.RESUMING
    outcome = reboot_stage.settle()
    assert outcome.settled is Settled.LOST
    assert outcome.text == "its new QEMU ended, and may have run the guest; the domain can be started"
    assert (living(reboot_stage), reboot_stage.left()) == (0, set())


@numbers(2, LOADED)
def test_libvirt_falls_silent(reboot_stage: RebootStage, number: int) -> None:
    """Whether new was ended can't be told: it is, once libvirt answers."""
    one = reboot_stage.saved(suspend=True)
    at(reboot_stage, number, reboot_stage.world.fall_silent)
    error = reboot_stage.restore(one)
    assert isinstance(error, Unsettled)
    assert error.hint == "virtcpr recover --all settles it"
    assert reboot_stage.stage is Stage.STARTING
    assert "start allowed" not in reboot_stage.left()
    assert reboot_stage.settle().settled is Settled.WAITING
    waits(reboot_stage)
    assert living(reboot_stage) == 0


# What must be as it was.


def test_what_is_not_sound_is_not_started(reboot_stage: RebootStage) -> None:
    one = reboot_stage.saved()
    one.state_path.write_bytes(b"something else")
    error = reboot_stage.restore(one)
    assert isinstance(error, HostError)
    assert error.message.startswith(f"{NAME} can't be restored: its state is cut off")
    assert error.message.count("its state waits in") == 1
    assert error.hint == saves.DISCARD.format(name=NAME)
    assert "start" not in reboot_stage.world.said
    waits(reboot_stage)


def test_a_disk_that_was_written_to_stays_a_reason(reboot_stage: RebootStage, tmp_path: Path) -> None:
    """Also where an earlier run was killed in the start: the second try must not find the disks as they are now."""
    one = reboot_stage.saved()
    one.write(Stage.STARTING, images={str(tmp_path / "disk"): (1, 1)})
    for _ in range(2):
        error = reboot_stage.restore(reboot_stage.record)
        assert isinstance(error, validate.Unfit)
        assert f"its disk {tmp_path}/disk is gone" in error.message
        waits(reboot_stage)


def test_what_is_damaged_while_it_is_loaded(reboot_stage: RebootStage) -> None:
    """QEMU may well notice first: it isn't QEMU's fault."""
    one = reboot_stage.saved()
    one.state_path.write_bytes(STATE[:-1] + b"x")
    error = reboot_stage.restore(one, read=False)
    assert isinstance(error, HostError)
    assert f"{NAME}: its state was changed since it was saved: the checksum differs" in error.message
    assert error.hint == saves.DISCARD.format(name=NAME)
    waits(reboot_stage)


def test_what_qemu_does_not_load_and_is_as_it_was(reboot_stage: RebootStage) -> None:
    one = reboot_stage.saved()
    at(reboot_stage, CALLS.index("query-migrate"), reboot_stage.world.now_fails)
    error = reboot_stage.restore(one)
    assert isinstance(error, HostError)
    version = DOMAIN.emulator.version
    assert f"{NAME}: QEMU {version} can't load its state: load of migration failed: Invalid argument" in error.message
    waits(reboot_stage)


@pytest.mark.parametrize("in_place", [True, False])
def test_only_a_small_state_is_read_before_it_is_loaded(
    reboot_stage: RebootStage, digested: list[Path], in_place: bool
) -> None:
    """All of the RAM may be in it: to read it twice takes twice as long."""
    if not in_place:
        reboot_stage.world.facts = private_ram(reboot_stage.world.facts)
    assert reboot_stage.restore(reboot_stage.saved(), read=None) is None
    assert bool(digested) == in_place


def test_what_is_damaged_and_loaded_all_the_same(reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch) -> None:
    one = reboot_stage.saved()
    end = Stream.end
    monkeypatch.setattr(Stream, "end", lambda self: replace(end(self), sha256="another"))
    error = reboot_stage.restore(one, read=False)
    assert isinstance(error, HostError)
    assert f"{NAME}: its state was changed since it was saved: the checksum differs" in error.message
    waits(reboot_stage)
    assert "resume" not in reboot_stage.world.said


def test_without_the_hook_it_is_not_started_on_blank_ram(reboot_stage: RebootStage) -> None:
    one = reboot_stage.saved()
    reboot_stage.world.hook = False
    error = reboot_stage.restore(one)
    assert isinstance(error, HostError)
    assert f"new QEMU has other RAM than {one.saved.ram[0].kept}: libvirt didn't run virtcpr's hook" in error.message
    assert "virtcpr hooks status" in str(error.hint)
    waits(reboot_stage)
    assert living(reboot_stage) == 0


def test_qemu_that_does_not_load_it(reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore_guest, "OVER_SECONDS", 0.02)
    one = reboot_stage.saved()

    def hang() -> None:
        reboot_stage.world.now.migration = "active"
        reboot_stage.world.now.status = "inmigrate"

    at(reboot_stage, CALLS.index("query-migrate"), hang)
    error = reboot_stage.restore(one)
    assert isinstance(error, HostError)
    assert f"{NAME}: QEMU doesn't load its state; its state waits in" in error.message
    waits(reboot_stage)


def test_a_record_that_cannot_be_written(reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """New must not run the guest then: nobody would know that the file is used up."""
    one = reboot_stage.saved()
    write = Record.write

    def full(self: Record, wanted: Stage, **changes: object) -> None:
        if wanted is Stage.RESUMING:
            raise HostError("record.json can't be written: No space left on device")
        write(self, wanted, **changes)

    monkeypatch.setattr(Record, "write", full)
    error = reboot_stage.restore(one)
    assert isinstance(error, HostError)
    assert "No space left on device; its state waits in" in error.message
    assert "resume" not in reboot_stage.world.said
    waits(reboot_stage)


def test_one_that_its_user_had_suspended_stays_so(reboot_stage: RebootStage) -> None:
    one = reboot_stage.saved()
    one.saved = replace(one.saved, runs=False)
    assert reboot_stage.restore(one) is None
    assert "resume" not in reboot_stage.world.said
    assert (reboot_stage.world.now.status, reboot_stage.left()) == ("paused", set())


# Other people.


@pytest.mark.parametrize("call", ["query-migrate", "query-status"])
def test_one_that_somebody_resumed_is_not_ended(reboot_stage: RebootStage, call: str) -> None:
    """It ran: to start it again from the file would be to run it twice."""
    one = reboot_stage.saved()
    at(reboot_stage, CALLS.index(call), lambda: reboot_stage.world.now.go())
    error = reboot_stage.restore(one)
    assert isinstance(error, Unsettled)
    assert f"{NAME}: QEMU is running after it has loaded the state" in error.message
    assert "was resumed by somebody (process " in error.message
    assert (living(reboot_stage), reboot_stage.world.now.status) == (1, "running")
    assert reboot_stage.settle().settled is Settled.FORWARD
    runs(reboot_stage)


def test_a_domain_that_somebody_started_is_left_alone(reboot_stage: RebootStage) -> None:
    one = reboot_stage.saved()
    theirs = reboot_stage.world.start(status="running")
    error = reboot_stage.restore(one)
    assert isinstance(error, HostError)
    words = f"{NAME} was started by somebody else (process {theirs.process.pid}); its state is kept in {one.directory}"
    assert (error.message, error.hint) == (words, "virtcpr recover --all settles it")
    assert theirs.process.alive()
    assert (reboot_stage.stage, reboot_stage.left()) == (Stage.SAVED, WAITS)


def test_one_that_waits_already_is_ended_and_started_anew(reboot_stage: RebootStage) -> None:
    """Somebody who restored it was killed."""
    one = reboot_stage.saved()
    theirs = reboot_stage.world.start("-incoming", "defer", status="inmigrate")
    assert reboot_stage.restore(one) is None
    assert not theirs.process.alive()
    runs(reboot_stage)


def test_one_that_does_not_die(reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch) -> None:
    one = reboot_stage.saved()
    monkeypatch.setattr(Process, "kill", lambda *_: False)
    at(reboot_stage, CALLS.index("getfd"), reboot_stage.world.refuse)
    error = reboot_stage.restore(one)
    assert isinstance(error, Unsettled)
    assert "was killed, and isn't gone after 30 s" in error.message
    assert reboot_stage.stage is Stage.STARTING


def test_the_start_is_allowed_only_while_it_lasts(reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch) -> None:
    one = reboot_stage.saved()
    seen: list[bool] = []
    start = FakeConnection.start_paused

    def noting(self: FakeConnection, xml: str) -> object:
        seen.append((ram_files.STARTING / one.saved.uuid).exists())
        assert reboot_stage.stage is Stage.STARTING  # written before what it announces
        assert pending_strips.noted()
        return start(self, xml)

    monkeypatch.setattr(FakeConnection, "start_paused", noting)
    at(reboot_stage, CALLS.index("getfd"), reboot_stage.world.refuse)
    assert reboot_stage.restore(one) is not None
    assert seen == [True]
    assert "start allowed" not in reboot_stage.left()


def test_another_emulator(reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch) -> None:
    one = reboot_stage.saved(Purpose.UPGRADE)
    assert one.saved.emulator == DOMAIN.emulator.path
    one.saved = replace(one.saved, emulator="/opt/qemu")
    documents: list[str] = []
    start = FakeConnection.start_paused

    def noting(self: FakeConnection, xml: str) -> object:
        documents.append(xml)
        return start(self, xml)

    monkeypatch.setattr(FakeConnection, "start_paused", noting)
    assert reboot_stage.restore(one) is None
    assert "<emulator>/opt/qemu</emulator>" in documents[0]


def test_processes_of_other_domains_live_on(reboot_stage: RebootStage) -> None:
    with subprocess.Popen(["sh", "-c", "read x", "qemu", "-incoming", "defer"], stdin=subprocess.PIPE) as other:
        assert reboot_stage.restore(reboot_stage.saved()) is None
        assert other.poll() is None
        other.kill()
