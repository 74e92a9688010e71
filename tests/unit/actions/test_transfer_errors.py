"""Errors that the lab can't make at will: a clock that is set, guests that stop at an instant, disks that are full."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support.transfer_stage import UUID, FakeMonitor, Stage
from virtcpr.actions.records import journal
from virtcpr.actions.records.journal import Journal
from virtcpr.actions.transfer import guest_events
from virtcpr.errors import Ended, HostError, QmpError, RolledBack, Unsettled
from virtcpr.host.files import atomic
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu import emulator, launch
from virtcpr.host.system.lock import Lock
from virtcpr.plan.steps import State

# The clock is set in the middle of a swap.


@pytest.mark.parametrize(
    ("stopped", "resumed", "expected"),
    [
        (1000.0, 1000.041, 41.0),
        (1000.0, 1000.0, 0.0),
        (1000.0, 999.9, None),  # set back
        (1000.0, 4600.04, None),  # set forward by an hour
        (1000.0, 1000.6, None),  # longer than the steps that it lies in
        (None, 1000.0, None),
        (1000.0, None, None),
    ],
)
def test_a_pause_that_cannot_be_right_is_not_reported(
    stopped: float | None, resumed: float | None, expected: float | None
) -> None:
    assert guest_events.pause(stopped, resumed, 0.5) == expected


def test_a_clock_that_is_set_in_the_pause(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest is moved all the same."""
    stamps = {"STOP": 5000.0, "RESUME": 1400.0}
    monkeypatch.setattr(FakeMonitor, "happened", lambda _, name: stamps[name])
    assert stage.run() is None
    assert stage.hand_over.pause_ms is None
    assert all(phase.ms >= 0 for phase in stage.hand_over.phases)


# The guest stops by itself between the last look at it and its pause.


def arrives(stage: Stage, state: str) -> None:
    """The guest arrives in new QEMU in this state."""
    new = stage.world.new
    answer = new.answer

    def answered(command: str, arguments: Mapping[str, Any]) -> object:
        result = answer(command, arguments)
        if command == "migrate-incoming":
            new.status = state
        return result

    new.answer = answered  # type: ignore[method-assign]


@pytest.mark.parametrize("state", guest_events.OWN_STOPS)
def test_a_guest_that_has_stopped_is_handed_over_as_it_is(stage: Stage, state: str) -> None:
    arrives(stage, state)
    assert stage.run() is None
    assert (stage.world.new.status, stage.hand_over.stopped) == (state, state)
    assert "new cont" not in stage.world.said
    assert not stage.world.old.process.alive()
    assert stage.hand_over.pause_ms is None


def test_a_guest_that_has_shut_down_is_not_woken_by_going_back(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    arrives(stage, "shutdown")
    write = Journal.write

    def full(self: Journal, state: State, **changes: object) -> None:
        if state is State.COMMITTING:
            raise HostError("the journal can't be written: No space left on device")
        write(self, state, **changes)

    monkeypatch.setattr(Journal, "write", full)
    error = stage.run()
    assert isinstance(error, RolledBack)
    assert "the guest had stopped (shutdown) and is paused in old QEMU" in error.message
    assert "old cont" not in stage.world.said
    assert not stage.world.new.process.alive()


def test_a_guest_that_shuts_down_before_the_swap(stage: Stage) -> None:
    stage.world.old.status = "shutdown"
    error = stage.run()
    assert isinstance(error, Ended)
    assert "the guest shut itself down before it could be moved; libvirt ends its QEMU" in error.message
    assert error.hint == "virsh domstate --reason d1"
    assert stage.world.old.process.alive()
    assert not stage.world.new.process.alive()


def test_a_guest_that_is_gone_before_the_swap(stage: Stage) -> None:
    stage.world.old.process.kill(10)
    error = stage.run()
    assert isinstance(error, Ended)
    assert "d1 was shut down, or its QEMU" in error.message
    assert not stage.world.new.process.alive()


# Old QEMU hangs, or dies, when new has all of the guest.


@pytest.mark.parametrize("how", ["hangs", "dies"])
def test_new_that_has_all_of_the_guest_is_not_killed_for_an_old_that_has_not(stage: Stage, how: str) -> None:
    """Recovery ends old then, and lets new run the guest."""
    world = stage.world

    def hear(side: str, command: str) -> None:
        world.said.append(f"{side} {command}")
        if side == "old" and "new migrate-incoming" in world.said:
            if how == "dies":
                world.old.process.kill(10)
            raise QmpError("old: no answer")

    world.hear = hear  # type: ignore[method-assign]
    error = stage.run()
    assert isinstance(error, Unsettled)
    assert "old QEMU is gone or doesn't answer, and new has all of the guest" in error.message
    assert world.new.process.alive()
    assert "new cont" not in world.said
    assert journal.load(UUID, stage.journal.path.parent).entry.state is State.RECEIVED


# A journal that can't be written.


@pytest.mark.parametrize("state", [State.SPAWNED, State.MIGRATING, State.RECEIVED, State.COMMITTING])
def test_a_journal_that_fails_before_the_point_of_no_return(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, state: State
) -> None:
    """And fails for good: that the guest was given back can't be written either, and needn't be."""
    write, broken = Journal.write, []

    def full(self: Journal, wanted: State, **changes: object) -> None:
        if wanted is state:
            broken.append(wanted)
        if broken:
            raise HostError("the journal can't be written: No space left on device")
        write(self, wanted, **changes)

    monkeypatch.setattr(Journal, "write", full)
    error = stage.run()
    assert isinstance(error, RolledBack)
    assert "No space left on device" in error.message
    assert (stage.world.old.status, stage.world.old.mode) == ("running", "normal")
    assert not stage.world.new.process.alive()


def test_a_journal_that_fails_after_it(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Journal.write

    def full(self: Journal, wanted: State, **changes: object) -> None:
        if wanted is State.RUNNING:
            raise HostError("the journal can't be written: No space left on device")
        write(self, wanted, **changes)

    monkeypatch.setattr(Journal, "write", full)
    assert stage.run() is None
    assert journal.load(UUID, stage.journal.path.parent).entry.state is State.COMMITTING
    assert stage.world.new.status == "running"
    assert not stage.world.old.process.alive()


def test_a_journal_that_cannot_be_removed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(self: Path, missing_ok: bool = False) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(HostError, match="the journal can't be removed: Read-only file system") as raised:
        stage.journal.close()
    assert raised.value.hint == "virtcpr recover --all settles it"


# Files.


def test_what_is_reserved_is_used_up_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "web.xml"
    path.write_text("before")
    atomic.reserve(path, 9000)
    assert (tmp_path / "web.xml.virtcpr").stat().st_size == 9000
    atomic.replace_durably(path, "after")
    assert path.read_text() == "after"
    assert [one.name for one in tmp_path.iterdir()] == ["web.xml"]
    atomic.reserve(path, 9000)
    atomic.unreserve(path)
    assert [one.name for one in tmp_path.iterdir()] == ["web.xml"]


def test_a_directory_where_nothing_can_be_reserved(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="couldn't be written: No such file or directory"):
        atomic.reserve(tmp_path / "away/web.xml", 9000)


def test_a_run_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match=r"can't be opened: .*; nothing was touched") as raised, Lock(tmp_path / "file"):
        pass
    assert "must be writable: see df and findmnt" in str(raised.value.hint)


# Waits that would be for ever.


@pytest.fixture
def launcher() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def test_a_launcher_that_hangs_is_ended_with_what_it_started(launcher: list[subprocess.Popen[bytes]]) -> None:
    starter = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE)
    launcher.append(starter)
    assert starter.stdout is not None
    child = Process.of(int(starter.stdout.readline()))
    launch._end_with_children(starter)
    assert starter.returncode is not None  # killed, or at its own end an instant before: its child goes first
    assert child.kill(10)


def test_an_emulator_that_hangs_is_ended_with_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator, "SECONDS", 1)
    monkeypatch.setattr(emulator, "_nobody", lambda: None)  # pytest's directories are ours alone
    script = tmp_path / "qemu"
    script.write_text(f"#!/bin/sh\nsleep 600 &\necho $! >{tmp_path}/child\nwait\n")
    script.chmod(0o755)
    with pytest.raises(emulator.NotAnEmulator, match="isn't QEMU, or is broken"):
        asyncio.run(emulator.inspect(str(script)))
    child = int((tmp_path / "child").read_text())
    with suppress(HostError):  # what is killed is there for an instant still
        assert Process.of(child).ends(10)


def test_a_guest_that_is_asked_has_its_deadline_back(stage: Stage) -> None:
    from virtcpr.actions.monitor import query

    monitor = FakeMonitor(stage.world.old, "old", timeout=7.0)
    assert asyncio.run(query.answers(monitor))  # type: ignore[arg-type]
    assert monitor.timeout == 7.0
