"""Saving one guest, failed at every call and stopped at every step: until its process is ended it runs on."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support.reboot_stage import NAME, STATE, UUID, WAITS, Qemu, RebootStage
from virtcpr.actions.monitor.query import NOT_DONE
from virtcpr.actions.reboot import disks, guest
from virtcpr.actions.records.saves import Record
from virtcpr.domain import restart
from virtcpr.errors import Ended, HostError, RolledBack, Unsettled, VirtcprError
from virtcpr.host.files import ram_files
from virtcpr.host.processes import kill_paused
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.stream import Stream, digest
from virtcpr.model import Settled
from virtcpr.plan.reboot.recovery import Purpose, Stage

# Every call to libvirt of a save with --suspend-guest.
CALLS = (
    "query-status", "suspend", "query-status", "query-memdev", "job", "query-migrate", "query-yank",
    "migrate-set-parameters", "migrate-set-capabilities", "query-migrate", "getfd", "migrate", "query-migrate", "xml",
    "query-cpus-fast", "query-status", "active",
)  # fmt: skip
NUMBERS = range(len(CALLS))
GONE = CALLS.index("active")  # the first call after the end of old QEMU
WHOLE = CALLS.index("xml")  # the state is whole
OVER = 10  # of one that doesn't suspend itself: what came of `migrate`
STEPS = ["keep", "suspend", "save", "end-old"]


def as_before(stage: RebootStage) -> None:
    """The guest runs in old QEMU, as libvirt expects it, and nothing is left of the attempt."""
    qemu = stage.world.now
    assert (qemu.number, qemu.status, qemu.asleep) == (1, "running", False)
    assert (qemu.mode, qemu.on) == ("normal", frozenset({"events", "return-path"}))
    assert stage.left() == set()
    assert (stage.world.ram / f"1-{NAME}/pc.ram").exists()


def test_a_guest_in_its_file(reboot_stage: RebootStage) -> None:
    old = reboot_stage.world.now
    assert reboot_stage.save(suspend=True) is None
    assert tuple(reboot_stage.world.said) == CALLS
    assert reboot_stage.steps == STEPS
    assert not old.process.alive()
    one = reboot_stage.record
    assert one.saved.stage is Stage.SAVED
    assert one.state_path.read_bytes() == STATE
    assert one.saved.state == digest(one.state_path)
    assert (one.saved.runs, one.saved.wake, one.saved.ignores_shared, one.saved.return_path) == (True, True, True, True)
    (file,) = one.saved.ram
    assert file.linked
    assert os.stat(file.kept).st_ino == file.identity.inode
    assert reboot_stage.left() == WAITS
    assert reboot_stage.world.ram.joinpath(f"1-{NAME}").exists() is False


def test_phases_are_measured(reboot_stage: RebootStage) -> None:
    made = reboot_stage.saving()
    made.run()
    assert [phase.name for phase in made.phases] == ["keep", "save", "end-old"]
    assert made.stopped is not None


@pytest.mark.parametrize("number", NUMBERS, ids=[f"{n} {call}" for n, call in enumerate(CALLS)])
def test_an_error_at_every_call(reboot_stage: RebootStage, number: int) -> None:
    world = reboot_stage.world
    world.at, world.then = number, world.refuse
    error = reboot_stage.save(suspend=True)
    if number == WHOLE:  # that of before does, too
        assert (error, reboot_stage.stage) == (None, Stage.SAVED)
        return
    assert error is not None
    assert f"{CALLS[number]} failed" in error.message
    assert error.hint
    if number < GONE:
        assert isinstance(error, RolledBack)
        words = "nothing was done to it" if number == 0 else "the guest runs on in old QEMU (process "
        assert words in error.message
        as_before(reboot_stage)
    else:
        assert isinstance(error, Unsettled)
        assert "its state is saved" in error.message
        assert error.hint == "virtcpr recover --all settles it"
        assert (reboot_stage.stage, reboot_stage.left()) == (Stage.SAVED, WAITS)
        assert reboot_stage.settle().settled is Settled.WAITING


@pytest.mark.parametrize("number", NUMBERS, ids=[f"{n} {call}" for n, call in enumerate(CALLS)])
def test_old_qemu_dies_at_every_call(reboot_stage: RebootStage, number: int) -> None:
    world = reboot_stage.world
    world.at, world.then = number, world.kill
    error = reboot_stage.save(suspend=True)
    if number >= WHOLE:
        assert error is None or isinstance(error, Unsettled)  # the file has all of it
        assert (reboot_stage.stage, reboot_stage.left()) == (Stage.SAVED, WAITS)
        assert reboot_stage.settle().settled is Settled.WAITING
    else:
        assert error is not None
        assert isinstance(error, (Ended, RolledBack))
        assert reboot_stage.left() == set()
        if number:
            assert f"{NAME} was shut down, or its QEMU (process " in error.message
            assert error.hint == f"virsh domstate --reason {NAME} says what happened"


@pytest.mark.parametrize("number", NUMBERS[1:GONE], ids=[f"{n} {call}" for n, call in enumerate(CALLS)][1:GONE])
def test_libvirt_falls_silent_at_every_call(
    reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The guest may be paused: the record stays, and recovery lets it go on once libvirt answers."""
    monkeypatch.setattr(guest, "SUSPEND_SECONDS", 0.02)
    world = reboot_stage.world
    world.at, world.then = number, world.fall_silent
    error = reboot_stage.save(suspend=True)
    assert isinstance(error, Unsettled)
    assert "the guest could not be resumed" in error.message
    assert error.hint == f"'virsh resume {NAME}' may do it; then virtcpr recover --all settles it"
    assert reboot_stage.stage is (Stage.SAVED if number >= WHOLE else Stage.SAVING)
    outcome = reboot_stage.settle()
    assert (outcome.settled, outcome.text) == (Settled.BACK, "the guest runs on")
    as_before(reboot_stage)


@pytest.mark.parametrize("number", range(len(STEPS)), ids=STEPS)
def test_a_signal_before_every_step(reboot_stage: RebootStage, number: int) -> None:
    reboot_stage.stopped_at = number
    error = reboot_stage.save(suspend=True)
    assert isinstance(error, RolledBack)
    assert error.message.startswith("interrupted; the guest runs on in old QEMU (process ")
    assert error.hint == "try again"
    assert reboot_stage.steps == STEPS[:number]
    as_before(reboot_stage)


def test_a_signal_after_the_last_step_comes_too_late(reboot_stage: RebootStage) -> None:
    reboot_stage.stopped_at = len(STEPS)
    assert reboot_stage.save(suspend=True) is None


# Records and files that can't be written.


@pytest.mark.parametrize("stage", [Stage.SAVING, Stage.SAVED])
def test_a_record_that_cannot_be_written(
    reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch, stage: Stage
) -> None:
    write = Record.write

    def full(self: Record, wanted: Stage, **changes: object) -> None:
        if wanted is stage:
            self.directory.mkdir(parents=True, exist_ok=True)
            raise HostError("record.json can't be written: No space left on device")
        write(self, wanted, **changes)

    monkeypatch.setattr(Record, "write", full)
    error = reboot_stage.save()
    assert isinstance(error, RolledBack)
    assert "No space left on device; the guest runs on in old QEMU" in error.message
    as_before(reboot_stage)


def sync_fails(monkeypatch: pytest.MonkeyPatch, number: int, when: Callable[[], bool]) -> None:
    """That of a directory."""
    fsync = os.fsync

    def broken(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode) and when():
            raise OSError(number, os.strerror(number))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", broken)


@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL])
def test_an_entry_that_does_not_reach_storage(
    reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Old QEMU isn't ended before it does; where the file system knows no such thing, it is only said."""
    sync_fails(monkeypatch, number, lambda: reboot_stage.stage is Stage.SAVED)
    error = reboot_stage.save(Purpose.SAVE)
    if number == errno.EINVAL:
        assert (error, reboot_stage.stage) == (None, Stage.SAVED)
    else:
        assert isinstance(error, RolledBack)
        assert "can't be written back to its storage: Input/output error; the guest runs on" in error.message
        as_before(reboot_stage)


@pytest.mark.parametrize("stage", [Stage.SAVED, Stage.RESUMING])
def test_only_where_the_state_is_about_to_be_all_it_must_reach_storage(
    reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch, stage: Stage
) -> None:
    """A restore that is given up for that would find, in the file, that its new QEMU has run the guest."""
    record = reboot_stage.saved(Purpose.SAVE)
    sync_fails(monkeypatch, errno.EIO, lambda: True)
    with pytest.raises(HostError, match="Input/output error") if stage is Stage.SAVED else nullcontext():
        record.write(stage)
    assert reboot_stage.stage is stage
    if stage is Stage.RESUMING:
        assert record.saved.stage is stage


def test_a_state_that_cannot_be_written(reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(self: Stream) -> None:
        raise HostError(f"{self.path} can't be written: No space left on device")

    monkeypatch.setattr(Stream, "end", end)
    error = reboot_stage.save()
    assert isinstance(error, RolledBack)
    assert "state can't be written: No space left on device; the guest runs on" in error.message
    as_before(reboot_stage)


def test_ram_that_is_in_another_file(reboot_stage: RebootStage) -> None:
    path = reboot_stage.world.ram / f"1-{NAME}/pc.ram"
    path.unlink()
    path.touch()
    error = reboot_stage.save()
    assert isinstance(error, RolledBack)
    assert "doesn't use" in error.message
    as_before(reboot_stage)


def test_ram_in_a_file_of_the_administrators_that_qemu_only_names(reboot_stage: RebootStage) -> None:
    """It would be opened as root to be written back: /dev/watchdog, to a QEMU that its guest has taken over."""
    made = reboot_stage.saving()
    (file,) = made.record.saved.ram
    made.record.saved = replace(made.record.saved, ram=(replace(file, kept=file.path),))
    Path(file.path).unlink()
    Path(file.path).touch()
    with pytest.raises(RolledBack, match=f"hasn't opened {file.path} as its RAM; the guest runs on"):
        made.run()


# QEMU's own refusals.


def answers(stage: RebootStage, command: str, **members: object) -> None:
    qemu = stage.world.now
    answer = qemu.answer

    def answered(asked: str, arguments: dict[str, object]) -> object:
        found = answer(asked, arguments)
        return {**found, **members} if asked == command and isinstance(found, dict) else found

    qemu.answer = answered  # type: ignore[method-assign, assignment]


def test_qemu_that_refuses(reboot_stage: RebootStage) -> None:
    answers(reboot_stage, "query-migrate", **{"blocked-reasons": ["the device is odd", "and old"]})
    error = reboot_stage.save()
    assert isinstance(error, RolledBack)
    assert f"{NAME}: QEMU refuses: the device is odd; and old; the guest runs on" in error.message
    assert "migrate" not in reboot_stage.world.said
    as_before(reboot_stage)


def test_qemu_that_fails(reboot_stage: RebootStage) -> None:
    """It resumes the guest by itself."""
    qemu = reboot_stage.world.now

    def fail() -> None:
        qemu.status, qemu.migration, qemu.why = "running", "failed", "Input/output error"

    reboot_stage.world.at, reboot_stage.world.then = OVER, fail
    error = reboot_stage.save()
    assert reboot_stage.world.said[OVER] == "query-migrate"
    assert isinstance(error, RolledBack)
    assert f"{NAME}: QEMU can't save the guest: Input/output error; the guest runs on" in error.message
    as_before(reboot_stage)


def test_qemu_that_does_not_end(reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "OVER_SECONDS", 0.02)
    qemu = reboot_stage.world.now

    def hang() -> None:
        qemu.migration = "device"

    reboot_stage.world.at, reboot_stage.world.then = OVER, hang
    error = reboot_stage.save()
    assert isinstance(error, RolledBack)
    assert f"{NAME}: QEMU doesn't end its migration; the guest runs on" in error.message
    assert "migrate_cancel" in reboot_stage.world.said
    as_before(reboot_stage)


def test_libvirt_is_busy(reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch) -> None:
    made = reboot_stage.saving()
    monkeypatch.setattr(type(made.domain), "job", lambda _: "unbounded")
    with pytest.raises(RolledBack, match=rf"{NAME}: libvirt is busy with it \(unbounded\); the guest runs on"):
        made.run()
    as_before(reboot_stage)


# What the guest and its users do meanwhile.


def resumed(stage: RebootStage, call: str) -> None:
    stage.world.at, stage.world.then = stage_calls(suspend=False).index(call), stage.world.now.go


def stage_calls(*, suspend: bool) -> list[str]:
    return [call for n, call in enumerate(CALLS) if suspend or n not in (1, 2)]


@pytest.mark.parametrize("call", ["xml", "query-cpus-fast"])
def test_a_guest_that_somebody_resumed_keeps_running(reboot_stage: RebootStage, call: str) -> None:
    resumed(reboot_stage, call)
    error = reboot_stage.save()
    assert isinstance(error, RolledBack)
    assert error.message.startswith("somebody resumed the guest while it was being saved; the guest runs on in old")
    assert "resume" not in reboot_stage.world.said
    as_before(reboot_stage)


def test_one_that_its_user_had_suspended_stays_so(reboot_stage: RebootStage) -> None:
    world = reboot_stage.world
    world.now.status = "paused"
    assert world.facts.qemu is not None
    world.facts = replace(world.facts, state="paused", reason="user", qemu=replace(world.facts.qemu, status="paused"))
    world.at, world.then = OVER, world.refuse
    error = reboot_stage.save()
    assert isinstance(error, RolledBack)
    assert "the guest is suspended as before in old QEMU" in error.message
    assert not {"resume", "cont", "wake"} & set(world.said)
    assert reboot_stage.left() == set()
    world.at, world.now.status = None, "paused"
    assert not reboot_stage.saved().saved.runs


def test_one_that_its_user_suspends_before(reboot_stage: RebootStage) -> None:
    """While virtcpr asked whether to go on."""
    made = reboot_stage.saving()
    reboot_stage.world.now.status = "paused"
    with pytest.raises(RolledBack, match=f"{NAME} is paused now, and was running; nothing was done to it"):
        made.run()
    assert (reboot_stage.world.now.status, reboot_stage.left()) == ("paused", set())


def test_one_that_was_started_anew_before(reboot_stage: RebootStage) -> None:
    made = reboot_stage.saving()
    reboot_stage.world.kill()
    assert not reboot_stage.world.active()
    again = reboot_stage.world.start(status="running")
    with pytest.raises(Ended, match="was shut down, or its QEMU"):
        made.run()
    assert again.process.alive()
    assert (again.status, reboot_stage.left()) == ("running", set())


def test_one_that_does_not_suspend_itself(reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "SUSPEND_SECONDS", 0.02)
    made = reboot_stage.saving(suspend=True)
    monkeypatch.setattr(type(made.domain), "suspend_to_ram", lambda _: None)
    with pytest.raises(RolledBack, match=rf"{NAME}: the guest didn't suspend itself within 0\.02 s; the guest runs on"):
        made.run()
    as_before(reboot_stage)


def test_one_that_libvirt_does_not_resume(reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may not have heard yet that it is paused: QEMU is told."""
    made = reboot_stage.saving()

    def no(_: object) -> None:
        raise HostError("libvirt: domain is already running")

    monkeypatch.setattr(type(made.domain), "resume", no)
    reboot_stage.world.at, reboot_stage.world.then = OVER, reboot_stage.world.refuse
    with pytest.raises(RolledBack, match="the guest runs on"):
        made.run()
    assert "cont" in reboot_stage.world.said
    as_before(reboot_stage)


def test_one_that_does_not_resume_at_all(reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch) -> None:
    made = reboot_stage.saving()
    monkeypatch.setattr(type(made.domain), "resume", lambda _: None)
    reboot_stage.world.at, reboot_stage.world.then = OVER, reboot_stage.world.refuse
    with pytest.raises(Unsettled, match="the guest could not be resumed: it is postmigrate and doesn't resume"):
        made.run()
    assert reboot_stage.stage is Stage.SAVING


# The end of old QEMU.


def test_one_that_does_not_die(reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch) -> None:
    made = reboot_stage.saving()

    def kill(_process: Process, _timeout: float) -> bool:
        reboot_stage.world.silent = True
        return False

    monkeypatch.setattr(Process, "kill", kill)
    with pytest.raises(Unsettled, match=r"was killed, and isn't gone after 30 s; the guest could not be resumed"):
        made.run()
    assert (reboot_stage.stage, reboot_stage.left()) == (Stage.SAVED, WAITS)


def test_libvirt_that_does_not_notice(reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "GONE_SECONDS", 0.02)
    made = reboot_stage.saving()
    monkeypatch.setattr(type(made.domain), "active", lambda _: True)
    with pytest.raises(
        Unsettled, match=r"libvirt didn't notice within 0\.02 s that its QEMU is gone; its state is saved"
    ):
        made.run()
    assert (reboot_stage.stage, reboot_stage.left()) == (Stage.SAVED, WAITS)


def test_only_the_very_process_is_ended(reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Process, float]] = []

    def end(process: Process, threads: object, rests: Callable[[], bool], timeout: float) -> bool:
        asked.append((process, timeout))
        return False

    monkeypatch.setattr(kill_paused, "end", end)
    old = reboot_stage.world.now.process
    assert isinstance(reboot_stage.save(), RolledBack)
    assert asked == [(old, guest.END_SECONDS)]


@pytest.mark.parametrize("purpose", Purpose)
def test_what_waits_over_a_reboot_is_on_storage_before_old_is_ended(
    reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch, purpose: Purpose
) -> None:
    synced: list[str] = []
    fsync, old = os.fsync, reboot_stage.world.now.process

    def note(fd: int) -> None:
        assert old.alive()
        synced.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note)
    assert reboot_stage.save(purpose) is None
    if purpose is Purpose.UPGRADE:
        assert synced == []
    else:
        assert {"state", "pc.ram", "record.json.virtcpr", UUID} <= set(synced)
        assert synced.index("state") < len(synced) - 1 - synced[::-1].index("record.json.virtcpr")


def test_disks_are_noted_before_what_takes_long(reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody resumes the guest while its RAM is written back, and it ends: its state is older than its disks."""
    xml = reboot_stage.saving().record.saved.xml
    image = next(Path(disk.path) for disk in restart.disks(xml) if disk.path is not None)
    image.write_text("before")

    def write_back(_: str) -> None:
        image.write_text("after")
        reboot_stage.world.kill()

    monkeypatch.setattr(ram_files, "write_back", write_back)
    reboot_stage.save(Purpose.SAVE)
    saved = reboot_stage.record.saved
    assert list(disks.changes(saved.xml, saved.images or {}, saved.devices)) == [
        f"its disk {image} was written to since it was saved"
    ]


def test_the_errors_exit_codes() -> None:
    codes = {kind: kind("x").exit_code.value for kind in (RolledBack, Ended, Unsettled)}
    assert codes == {RolledBack: 5, Ended: 1, Unsettled: 6}
    assert issubclass(RolledBack, VirtcprError)


def test_an_answer_that_makes_no_sense_rolls_back(reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Qemu.answer

    def odd(qemu: Qemu, command: str, arguments: Mapping[str, Any]) -> object:
        return [{"cpu-index": 0}] if command == "query-cpus-fast" else answer(qemu, command, arguments)

    monkeypatch.setattr(Qemu, "answer", odd)
    error = reboot_stage.save()
    assert isinstance(error, RolledBack)
    assert error.message.startswith("QEMU answered an object without 'thread-id'; the guest runs on in old QEMU")
    as_before(reboot_stage)


@pytest.mark.parametrize(("migration", "cleaning"), [("active", 0), ("failed", 1 << 30)])
def test_somebody_elses_migration_goes_on(reboot_stage: RebootStage, migration: str, cleaning: int) -> None:
    """A user's own, or one of libvirt's that has just failed: nothing is set, and nothing cancelled."""
    qemu = reboot_stage.world.now
    qemu.migration, qemu.cleaning = migration, cleaning
    error = reboot_stage.save()
    assert isinstance(error, RolledBack)
    assert "QEMU is busy with another migration; the guest runs on in old QEMU" in error.message
    assert not {"migrate-set-parameters", "migrate-set-capabilities", "migrate_cancel"} & set(reboot_stage.world.said)
    assert (qemu.migration, reboot_stage.left()) == (migration, set())


def test_settings_stay_where_qemu_never_cleans_up(reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """With others an assertion of QEMU's might fail, and the guest be gone."""
    monkeypatch.setattr(guest, "OVER_SECONDS", 0.05)

    def fail() -> None:
        reboot_stage.world.now_fails()
        reboot_stage.world.now.status, reboot_stage.world.now.cleaning = "running", 1 << 30

    reboot_stage.world.at, reboot_stage.world.then = OVER, fail
    error = reboot_stage.save()
    assert isinstance(error, RolledBack)
    assert f"the guest runs on ({NOT_DONE}) in old QEMU" in error.message
    assert reboot_stage.world.now.mode == "cpr-reboot"
    assert reboot_stage.left() == set()


def test_a_guest_that_somebody_else_has_moved_away_is_not_resumed(reboot_stage: RebootStage) -> None:
    """It would run twice."""
    qemu = reboot_stage.world.now

    def move() -> None:
        qemu.status, qemu.migration, qemu.cleaning = "postmigrate", "completed", 3

    reboot_stage.world.at, reboot_stage.world.then = CALLS.index("query-yank") - 2, move  # of one that isn't suspended
    error = reboot_stage.save()
    assert isinstance(error, RolledBack)
    assert "the guest is stopped (postmigrate) in old QEMU" in error.message
    assert not {"resume", "cont"} & set(reboot_stage.world.said)
