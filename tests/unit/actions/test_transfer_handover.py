"""A hand-over that fails, or is interrupted, at every command: one owner, or a journal that says how to settle it."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support.qemu_answers import RECORDED, key
from tests.unit.support.transfer_stage import OPTIONAL, UUID, FakeMonitor, Stage, dies_soon
from virtcpr.actions.records import journal, quarantine
from virtcpr.actions.transfer import libvirt_record, new_qemu, place_threads
from virtcpr.actions.transfer.ownership import MOVE_SECONDS
from virtcpr.actions.transfer.resources import vsock
from virtcpr.actions.transfer.resources.taps import Taps
from virtcpr.actions.transfer.settle import Settlement
from virtcpr.errors import HostError, QmpError, RolledBack, Unsettled
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.qmp import Monitor
from virtcpr.model import Settled
from virtcpr.plan.guest import Guest
from virtcpr.plan.steps import CONNECT, FINISH, HAND_OVER, MAKE_NEW, Side, State


def commands() -> int:
    """How many commands a hand-over that goes well has; more than it really has does no harm."""
    return 100


def test_every_step_is_bound(stage: Stage) -> None:
    assert list(stage.hand_over._actions) == [step.name for step in (*MAKE_NEW, *CONNECT, *HAND_OVER, *FINISH)]


def test_when_nothing_fails(stage: Stage) -> None:
    assert stage.run() is None
    assert len(stage.world.said) < commands()
    assert stage.world.new.status == "running"
    assert not stage.world.old.process.alive()
    assert not stage.world.both_ran
    assert f'pid="{stage.world.new.process.pid}"' in Path(stage.plan.status_path).read_text()
    assert stage.world.said.index("old migrate") < stage.world.said.index("new migrate-incoming")


@pytest.mark.parametrize("cancel", [False, True], ids=["fails", "ctrl-c"])
@pytest.mark.parametrize("at", range(commands()))
def test_at_every_command(stage: Stage, at: int, cancel: bool) -> None:
    world = stage.world
    world.fail_at, world.cancel = at, cancel

    error = stage.run()

    assert not world.both_ran
    said = journal.load(UUID, stage.journal.path.parent).entry.state
    if len(world.said) <= at or (
        not cancel and world.said[at].split()[1] in OPTIONAL
    ):  # it had fewer, or can do without
        assert error is None
    elif isinstance(error, RolledBack):
        assert said is State.ROLLED_BACK
        assert not world.new.process.alive()
        assert world.old.process.alive()
        assert (world.old.status, world.old.mode) == ("running", "normal")
        assert "the guest" in error.message
        assert error.hint
    else:
        # At or after the point of no return: nothing is undone, the journal stays, and recovery knows the way.
        assert isinstance(error, Unsettled), error
        assert error.hint == "virtcpr recover --all settles it"
        assert said in (State.COMMITTING, State.RUNNING)
        assert world.new.process.alive()
        assert not world.old.process.alive()


def test_a_cid_that_cannot_be_taken_rolls_back(stage: Stage) -> None:
    """Nor given back, as the process that stands in for old has no vsock device: QEMU was asked for nothing."""
    stage.hand_over.plan = replace(stage.plan, cid=3)
    error = stage.run()
    assert isinstance(error, RolledBack)
    assert "hasn't opened /dev/vhost-vsock" in error.message
    assert "vsock doesn't reach the guest (CID 3)" in error.message
    assert "connections have ended" not in error.message
    assert "old migrate" not in stage.world.said
    assert (stage.world.old.status, stage.world.new.process.alive()) == ("running", False)


def test_vsock_is_given_back_before_the_guest_goes_on(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what it sends at once would be dropped."""
    said = stage.world.said

    def give_back(*_: object) -> list[str]:
        said.append("old vsock-back")
        return []

    monkeypatch.setattr(vsock, "take", lambda *_: said.append("old vsock-taken"))
    monkeypatch.setattr(vsock, "give_back", give_back)
    monkeypatch.setattr(FakeMonitor, "migration_end", refuse)
    stage.hand_over.plan = replace(stage.plan, cid=3)
    error = stage.run()
    assert isinstance(error, RolledBack)
    assert "its vsock connections have ended" in error.message
    order = ["old vsock-taken", "old migrate", "new migrate-incoming", "old vsock-back", "old cont"]
    assert [word for word in said if word in order] == order


async def refuse(*_: object) -> str:
    return "failed"


def test_a_cont_whose_answer_is_lost_never_lets_old_go_on(stage: Stage) -> None:
    """New may have run: old is ended, new is told once more, and libvirt's record is written."""
    world = stage.world

    def lost(side: str, command: str) -> None:
        world.said.append(f"{side} {command}")
        if f"{side} {command}" == "new cont" and world.said.count("new cont") == 1:
            world.new.status = "running"
            raise QmpError("the answer to cont was lost")

    world.hear = lost  # type: ignore[method-assign]

    error = stage.run()

    assert isinstance(error, Unsettled)
    assert not world.old.process.alive()
    assert world.new.process.alive()
    assert (world.new.status, world.both_ran) == ("running", False)
    assert f'pid="{world.new.process.pid}"' in Path(stage.plan.status_path).read_text()


def test_a_guest_that_new_refuses_was_paused_and_is_told_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU lets old run on by itself; its events tell for how long the guest was paused."""

    async def migration_end(monitor: FakeMonitor, timeout: float) -> str:
        return "failed" if monitor.qemu.side == "new" else "completed"

    monkeypatch.setattr(FakeMonitor, "migration_end", migration_end)
    monkeypatch.setattr(FakeMonitor, "happened", lambda _, name: {"STOP": 5.0, "RESUME": 5.001}[name])

    error = stage.run()

    assert isinstance(error, RolledBack)
    assert stage.hand_over.refusal == "status completed"
    assert stage.hand_over.pause_ms == 1.0
    assert error.hint == "shut the domain down and start it, or wait for a QEMU build that accepts it"


def test_a_file_that_virtiofsd_cannot_find_is_no_refusal_of_the_guest(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It isn't remembered: the next move may go well.  virtlogd writes the log, some time after QEMU's answer."""

    async def migration_end(monitor: FakeMonitor, timeout: float) -> str:
        return "failed" if monitor.qemu.side == "new" else "completed"

    monkeypatch.setattr(FakeMonitor, "migration_end", migration_end)
    words = 'Error loading back-end state of virtio-user-fs device fs0 (tag: "share"): Back-end failed to process'
    log = iter(["", "", words])
    monkeypatch.setattr(type(stage.hand_over.new), "words", lambda _: next(log))

    error = stage.run()

    assert isinstance(error, RolledBack)
    assert stage.hand_over.refusal is None
    assert str(error.hint).startswith(
        "try again: in a shared directory (virtiofs) the guest most likely had a file open"
    )


def test_a_cont_that_is_refused_gives_the_guest_back(stage: Stage) -> None:
    world = stage.world

    def refused(side: str, command: str) -> None:
        world.said.append(f"{side} {command}")
        if f"{side} {command}" == "new cont":
            raise QmpError("images can't be activated")

    world.hear = refused  # type: ignore[method-assign]

    error = stage.run()

    assert isinstance(error, RolledBack)
    assert not world.new.process.alive()
    assert (world.old.status, world.old.mode) == ("running", "normal")


def test_old_that_ends_is_noticed_at_once(
    stage: Stage, processes: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """New would wait for it, and the daemon of all guests with it."""

    async def never(self: FakeMonitor, timeout: float) -> str:
        self.qemu.migration = "active"  # new hasn't got all of the guest
        dies_soon(processes[0])
        await asyncio.sleep(timeout)
        return "failed"

    monkeypatch.setattr(FakeMonitor, "migration_end", never)
    begun = time.monotonic()

    error = stage.run()

    assert isinstance(error, Unsettled)
    assert "old QEMU ended" in error.message
    assert time.monotonic() - begun < MOVE_SECONDS
    assert not stage.world.new.process.alive()


def test_new_that_is_about_to_end_does_not_cost_old_its_life(
    stage: Stage, processes: list[subprocess.Popen[bytes]]
) -> None:
    """Killed as ``cont`` was sent: old, which can be reset, is all that is left of the guest."""
    world = stage.world

    def lost(side: str, command: str) -> None:
        world.said.append(f"{side} {command}")
        if "new cont" in world.said and side == "new":
            if command == "cont":
                dies_soon(processes[1])
            raise QmpError("the monitor was lost")

    world.hear = lost  # type: ignore[method-assign]

    error = stage.run()

    assert isinstance(error, Unsettled)
    assert "new QEMU has ended" in error.message
    assert world.old.process.alive()
    assert "old cont" not in world.said


# What libvirt wouldn't take.


def test_a_machine_that_is_another_is_rolled_back_before_the_guest_is_paused(stage: Stage) -> None:
    stage.world.new.iothreads = ("iothread1", "stray")

    error = stage.run()

    assert isinstance(error, RolledBack)
    assert "new QEMU isn't the machine that libvirt expects: iothreads: with stray; the guest runs on" in error.message
    assert "new migrate-incoming" not in stage.world.said
    assert "old cont" not in stage.world.said
    assert (stage.world.old.status, stage.world.old.mode) == ("running", "normal")
    assert not stage.world.new.process.alive()


@pytest.fixture
def tamper(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Have something happen between the record's being written and libvirt's reading it."""

    def arrange(action: Callable[[], object]) -> None:
        async def tampered(guest: Guest, new: Monitor, process: Process) -> None:
            await record(guest, new, process)
            action()

        monkeypatch.setattr(libvirt_record, "write", tampered)

    record = libvirt_record.write
    return arrange


def test_a_guest_that_libvirt_would_kill_is_held(
    stage: Stage, tamper: Callable[[Callable[[], object]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays in new, alone; libvirt's record is where the daemon doesn't look, until what was wrong is right."""
    key_file, status = Path(stage.plan.status.lib_dir) / "master-key.aes", Path(stage.plan.status_path)
    tamper(lambda: key_file.write_bytes(bytes(31)))

    error = stage.run()

    assert isinstance(error, Unsettled)
    assert "'preflight' failed: libvirt would kill the guest: " in error.message
    assert "master-key.aes has 31 bytes, libvirt expects 32" in error.message

    async def connect(path: str, name: str, *, timeout: float) -> FakeMonitor:
        return FakeMonitor(stage.world.new, name)

    monkeypatch.setattr(Monitor, "connect", connect)
    outcome = asyncio.run(Settlement(journal.load(UUID, stage.journal.path.parent)).run(dry_run=False))

    assert outcome.settled is Settled.UNKNOWN
    assert "the guest runs in process" in outcome.text
    assert "master-key.aes has 31 bytes" in outcome.text
    assert "is held aside in" in outcome.text
    assert "libvirt shows the domain shut off, or not at all, and refuses to start it" in outcome.text
    assert not status.exists()
    assert not status.with_suffix(".pid").exists()
    assert quarantine.held() == {UUID: status.stem}
    assert stage.world.new.process.alive()
    assert stage.world.new.status == "running"
    assert not stage.world.old.process.alive()

    key_file.write_bytes(bytes(32))
    tamper(lambda: None)
    outcome = asyncio.run(Settlement(journal.load(UUID, stage.journal.path.parent)).run(dry_run=False))

    assert outcome.settled is Settled.FORWARD
    assert f'pid="{stage.world.new.process.pid}"' in status.read_text()
    assert status.with_suffix(".pid").read_text() == f"{stage.world.new.process.pid}\n"
    assert quarantine.held() == {}
    assert journal.pending(stage.journal.path.parent) == []


def test_what_libvirt_lives_with_is_a_warning(stage: Stage, tamper: Callable[[Callable[[], object]], None]) -> None:
    tamper(lambda: setattr(stage.world.new, "iothreads", ()))
    assert stage.run() is None
    assert stage.hand_over.warnings == ["iothreads: without iothread1"]


def test_a_record_that_was_spoiled_is_written_anew(
    stage: Stage, tamper: Callable[[Callable[[], object]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    status = Path(stage.plan.status_path)
    tamper(lambda: status.write_text("<domstatus"))
    error = stage.run()
    assert isinstance(error, Unsettled)
    assert "libvirt's record of the guest: XML that can't be parsed" in error.message

    async def connect(path: str, name: str, *, timeout: float) -> FakeMonitor:
        return FakeMonitor(stage.world.new, name)

    monkeypatch.setattr(Monitor, "connect", connect)
    tamper(lambda: None)
    outcome = asyncio.run(Settlement(journal.load(UUID, stage.journal.path.parent)).run(dry_run=False))
    assert outcome.settled is Settled.FORWARD
    assert f'pid="{stage.world.new.process.pid}"' in status.read_text()


def test_old_is_not_ended_once_new_is_gone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """New dies just after the point of no return, by itself: old can be reset, so it must be there still."""

    async def dies(*_: Any) -> list[str]:
        stage.world.new.process.kill(10)
        return []

    monkeypatch.setattr(place_threads, "lead_machine", dies)
    error = stage.run()
    assert isinstance(error, Unsettled)
    assert "'end-old' failed" in error.message
    assert stage.world.old.process.alive()
    assert "old cont" not in stage.world.said


def test_a_watcher_that_fails_is_no_end_of_a_qemu(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a descriptor left, nothing can be read of a process: new QEMU hasn't ended for that."""

    def none_left(_: Process) -> bool:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def watch() -> None:
        monkeypatch.setattr(Process, "alive", none_left)
        await new_qemu.unless_one_dies(asyncio.sleep(600), "web", stage.world.old.process, stage.hand_over.new)

    with pytest.raises(OSError, match="Too many open files"):
        asyncio.run(watch())


def test_vcpus_are_in_their_place_before_the_guest_is_paused() -> None:
    """They would run on in the emulator's cgroup and on its processors: 128 of them on one."""
    names = [step.name for step in (*MAKE_NEW, *CONNECT, *HAND_OVER, *FINISH)]
    assert names.index("attach") < names.index("place") < names.index("incoming")
    assert names.index("commit") < names.index("machined") < names.index("end-old"), "both must be alive for it"


def test_every_step_says_on_which_side_it_is(stage: Stage) -> None:
    sides = [step.side for step in stage.plan.steps]
    assert sides == sorted(sides, key=[Side.BEFORE, Side.AT, Side.AFTER].index)
    assert sides.count(Side.AT) == 1


@pytest.mark.parametrize("suspended", [False, True])
def test_a_guest_that_its_user_suspends_meanwhile_stays_suspended(stage: Stage, suspended: bool) -> None:
    async def both() -> None:
        await stage.hand_over.make_new()
        stage.world.old.status = "paused" if suspended else "running"
        await stage.hand_over.connect()
        await stage.hand_over.hand_over()

    if not suspended:
        asyncio.run(both())
        return
    with pytest.raises(RolledBack, match="is paused now, which it wasn't when the swap was planned"):
        asyncio.run(both())
    assert stage.world.old.status == "paused"
    assert "old cont" not in stage.world.said


def test_what_is_called_off_leaves_old_as_it_was(stage: Stage) -> None:
    async def called_off() -> None:
        await stage.hand_over.make_new()
        await stage.hand_over.call_off(HostError("libvirt is busy with mail (backup)"))

    with pytest.raises(RolledBack, match="libvirt is busy with mail"):
        asyncio.run(called_off())
    assert (stage.world.old.status, stage.world.old.mode) == ("running", "normal")
    assert not stage.world.new.process.alive()
    assert "old connect" not in stage.world.said, "libvirt's daemon has its monitor"


def test_a_change_below_a_disk_turns_it_back(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def both() -> None:
        await stage.hand_over.make_new()
        monkeypatch.setitem(RECORDED["old"], key("query-block-jobs", {}), [{"device": "virtio-disk0"}])
        await stage.hand_over.connect()
        await stage.hand_over.hand_over()

    with pytest.raises(RolledBack, match="changed while new QEMU was made: block jobs: with virtio-disk0"):
        asyncio.run(both())
    assert stage.world.old.status == "running"


def test_the_taps_are_as_the_guest_has_them_when_its_turn_comes(stage: Stage) -> None:
    """Others are handed over after `connect`: what the guest changed meanwhile is what old must get back."""

    class Changing(Taps):
        def __init__(self) -> None:
            self.seen = 0
            self.at_hand_over: tuple[tuple[int, ...], ...] = ()

        def note(self) -> None:
            self.seen += 1

        @property
        def settings(self) -> tuple[tuple[int, ...], ...]:
            return ((7, self.seen, 0, 1),)

        def hand_over(self) -> None:
            self.at_hand_over = stage.journal.entry.taps

        async def let_go(self) -> None:
            pass

    async def both() -> tuple[int, Changing]:
        await stage.hand_over.make_new()
        taps = stage.hand_over._taps = Changing()
        await stage.hand_over.connect()
        connected = taps.seen
        await stage.hand_over.hand_over()
        return connected, taps

    connected, taps = asyncio.run(both())
    assert taps.seen > connected
    assert taps.at_hand_over == taps.settings, "recovery must know it before new touches them"


def test_a_guest_that_was_told_nothing_is_left_alone(stage: Stage) -> None:
    """libvirt may be busy with it, and pass nothing on."""
    with pytest.raises(RolledBack, match="libvirt is busy"):
        asyncio.run(stage.hand_over.call_off(HostError("libvirt is busy")))
    assert stage.world.said == []
    assert stage.world.old.status == "running"
    assert not stage.world.new.process.alive()


def test_a_migration_that_somebody_cancelled_is_not_waited_for(stage: Stage) -> None:
    async def both() -> None:
        await stage.hand_over.make_new()
        stage.world.old.migration = "cancelled"
        await stage.hand_over.connect()
        await stage.hand_over.hand_over()

    with pytest.raises(RolledBack, match="old QEMU's migration is cancelled before the hand-over"):
        asyncio.run(both())
    assert "new migrate-incoming" not in stage.world.said
