"""What recovery makes of a hand-over that nobody finished."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.support.transfer_stage import UUID, FakeMonitor, Stage, dies_soon
from virtcpr.actions.records import journal, quarantine
from virtcpr.actions.transfer.settle import Settlement
from virtcpr.errors import QmpError
from virtcpr.host.qemu.qmp import Monitor
from virtcpr.model import Recovered, Settled
from virtcpr.plan.steps import State


@pytest.fixture
def settle(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recovered]:
    """New has died at ``committing``, virtcpr too; old waits with its state of before."""
    world = stage.world

    async def connect(path: str, name: str, *, timeout: float) -> FakeMonitor:
        return FakeMonitor(world.old, name)

    def act(*, runs: bool) -> Recovered:
        monkeypatch.setattr(Monitor, "connect", connect)
        stage.journal.write(State.COMMITTING, guest=replace(stage.plan.guest, runs=runs))
        world.new.process.kill(10)
        world.old.status, world.old.migration = "postmigrate", "completed"
        return asyncio.run(Settlement(journal.load(UUID, stage.journal.path.parent)).run(dry_run=False))

    return act


def test_a_guest_that_may_have_run_in_new_is_reset_in_old(stage: Stage, settle: Callable[..., Recovered]) -> None:
    assert settle(runs=True).settled is Settled.BACK
    assert stage.world.said.index("old system_reset") < stage.world.said.index("old cont")
    assert (stage.world.old.status, stage.world.old.mode) == ("running", "normal")
    assert journal.pending(stage.journal.path.parent) == []


def test_a_suspended_guest_never_ran_in_new_and_is_not_reset(stage: Stage, settle: Callable[..., Recovered]) -> None:
    assert settle(runs=False).settled is Settled.BACK
    assert "old system_reset" not in stage.world.said
    assert "old cont" not in stage.world.said
    assert stage.world.old.process.alive()


def test_a_cid_that_cannot_be_given_back_keeps_no_guest(stage: Stage, settle: Callable[..., Recovered]) -> None:
    """The process that stands in for old has no vsock device: recovery says so, and the guest runs."""
    stage.journal.write(State.MIGRATING, cid=3)
    outcome = settle(runs=True)
    assert (outcome.settled, stage.world.old.status) == (Settled.BACK, "running")
    assert "vsock doesn't reach the guest (CID 3): old QEMU" in outcome.text
    assert "its vsock connections may have ended" in outcome.text


def test_a_guest_that_its_user_paused_after_virtcpr_died_stays_paused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At ``spawned`` nothing was done to it, and it may be long ago."""
    connected = []

    async def connect(path: str, name: str, *, timeout: float) -> FakeMonitor:
        connected.append(name)
        return FakeMonitor(stage.world.old, name)

    monkeypatch.setattr(Monitor, "connect", connect)
    stage.world.old.status = "paused"
    outcome = asyncio.run(Settlement(journal.load(UUID, stage.journal.path.parent)).run(dry_run=False))
    assert outcome.settled is Settled.BACK
    assert stage.world.old.status == "paused"
    assert not stage.world.new.process.alive()
    assert len(connected) == 2  # to look, and for the pre-flight: new's, which isn't there yet, would be waited for


def test_old_that_is_about_to_end_is_not_waited_for(
    stage: Stage, processes: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It doesn't answer, and would do so no more: the guest is lost, which is no reason to leave the swap unsettled."""

    async def connect(path: str, name: str, *, timeout: float) -> FakeMonitor:
        raise QmpError("connection refused")

    monkeypatch.setattr(Monitor, "connect", connect)
    stage.journal.write(State.MIGRATING)
    stage.world.new.process.kill(10)
    dies_soon(processes[0])
    outcome = asyncio.run(Settlement(journal.load(UUID, stage.journal.path.parent)).run(dry_run=False))
    assert (outcome.settled, outcome.old) == (Settled.LOST, "gone")
    assert journal.pending(stage.journal.path.parent) == []


def test_new_that_is_about_to_end_does_not_get_the_guest(
    stage: Stage, processes: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect(path: str, name: str, *, timeout: float) -> FakeMonitor:
        return FakeMonitor(stage.world.old, name)

    monkeypatch.setattr(Monitor, "connect", connect)
    stage.journal.write(State.COMMITTING)
    stage.world.old.status, stage.world.old.migration = "postmigrate", "completed"
    dies_soon(processes[1])
    outcome = asyncio.run(Settlement(journal.load(UUID, stage.journal.path.parent)).run(dry_run=False))
    assert (outcome.settled, outcome.new) == (Settled.BACK, "gone")
    assert stage.world.old.process.alive()
    assert stage.world.said.index("old system_reset") < stage.world.said.index("old cont")


def test_a_defect_in_settling_one_guest_is_its_own(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are settled, and the daemon is started: nothing is raised."""

    async def connect(path: str, name: str, *, timeout: float) -> FakeMonitor:
        raise KeyError("surprise")

    monkeypatch.setattr(Monitor, "connect", connect)
    outcome = asyncio.run(Settlement(stage.journal).run(dry_run=False))
    assert outcome.settled is Settled.UNKNOWN
    assert outcome.text.startswith("KeyError: 'surprise'; libvirt's record of it is held aside in ")
    assert journal.pending(stage.journal.path.parent) == [UUID]


def test_a_session_that_tells_nothing_is_given_up_and_the_other_process_asked(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New is hung after its greeting: its session must not stay open, and old has the guest."""
    closed: list[str] = []
    sessions = iter(["new", "old"])

    async def connect(path: str, name: str, *, timeout: float) -> FakeMonitor:
        side = next(sessions)
        return FakeMonitor(getattr(stage.world, side), side)

    async def execute(self: FakeMonitor, command: str, arguments: object = None, *, fd: object = None) -> object:
        if self.qemu.side == "new":
            raise QmpError("no answer")
        stage.world.hear(self.qemu.side, command)
        return self.qemu.answer(command, arguments or {})  # type: ignore[arg-type]

    async def close(self: FakeMonitor) -> None:
        closed.append(self.name)

    monkeypatch.setattr(Monitor, "connect", connect)
    monkeypatch.setattr(FakeMonitor, "execute", execute)
    monkeypatch.setattr(FakeMonitor, "close", close)
    stage.journal.write(State.MIGRATING)
    outcome = asyncio.run(Settlement(journal.load(UUID, stage.journal.path.parent)).run(dry_run=True))
    assert closed[0] == "new"
    assert (outcome.old, outcome.new) == ("running", "silent")


def test_a_domain_that_was_started_a_second_time_is_nobodys(
    stage: Stage, processes: list[subprocess.Popen[bytes]]
) -> None:
    """The record is that of a third process: it isn't touched, and neither is any of the others."""
    status = Path(stage.plan.status_path)
    status.write_text(re.sub("pid='[0-9]+'", f"pid='{os.getpid()}'", stage.plan.status_xml, count=1))
    outcome = asyncio.run(Settlement(journal.load(UUID, stage.journal.path.parent)).run(dry_run=False))
    assert outcome.settled is Settled.UNKNOWN
    assert outcome.text.startswith(f"libvirt started the domain again, in process {os.getpid()}; old QEMU is process")
    assert status.exists()
    assert quarantine.held() == {}
    assert stage.world.old.process.alive()
    assert stage.world.new.process.alive()
