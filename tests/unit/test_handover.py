"""A hand-over that fails, or is interrupted, at every command: one owner, or a journal that says how to settle it.

Both QEMUs are models of QMP here; their processes are real ones, that really die.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit import facts
from virtcpr.errors import HostError, QmpError, RolledBack, Unsettled, VirtcprError
from virtcpr.host import daemon
from virtcpr.host.daemon import Daemon
from virtcpr.host.proc import Process
from virtcpr.host.qmp import Monitor
from virtcpr.model import Recovered, Settled
from virtcpr.plan.steps import Side, State
from virtcpr.plan.transfer import Plan, plan
from virtcpr.swap import journal, recovery
from virtcpr.swap.handover import HandOver
from virtcpr.swap.journal import Entry, Journal
from virtcpr.swap.recovery import Settlement
from virtcpr.swap.spawn import NewQemu

UUID = "6b1a0f5e-0d0c-4d5a-9a5e-000000000001"


@dataclass
class World:
    """Both QEMUs, and the command at which something happens; ``said`` is every command in its order."""

    old: Qemu
    new: Qemu
    fail_at: int | None = None
    cancel: bool = False
    said: list[str] = field(default_factory=list)
    both_ran: bool = False

    def hear(self, side: str, command: str) -> None:
        self.said.append(f"{side} {command}")
        if self.fail_at is not None and len(self.said) - 1 == self.fail_at:
            if self.cancel:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            else:
                raise QmpError(f"{side}: {command} failed")


@dataclass
class Qemu:
    """One side, as far as the steps ask it."""

    side: str
    process: Process
    status: str
    mode: str = "normal"
    migration: str = "none"
    world: World = field(init=False)

    def answer(self, command: str, arguments: Mapping[str, Any]) -> object:
        other = self.world.new if self.side == "old" else self.world.old
        match command:
            case "query-cpus-fast":
                return [{"cpu-index": 0, "thread-id": self.process.pid}]
            case "query-status":
                return {"status": self.status}
            case "query-migrate":
                return {"status": self.migration}
            case "query-chardev" | "query-iothreads":
                return []
            case "migrate-set-parameters":
                self.mode = arguments["mode"]
            case "migrate":
                self.migration = "setup"
            case "migrate-incoming":
                other.status, other.migration = "postmigrate", "completed"
                self.status, self.migration = "paused", "completed"
            case "migrate_cancel":
                self.migration = "cancelled"
            case "cont":
                self.status = "running"
                self.world.both_ran |= other.status == "running" and other.process.alive()
        return {}


@dataclass
class FakeMonitor:
    qemu: Qemu
    name: str
    timeout: float = 0.0

    async def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, fd: int | None = None
    ) -> object:
        self.qemu.world.hear(self.qemu.side, command)
        await asyncio.sleep(0)
        if not self.qemu.process.alive():
            raise QmpError(f"{self.name} is gone")
        return self.qemu.answer(command, arguments or {})

    async def migration_end(self, timeout: float) -> str:
        return self.qemu.migration

    def happened(self, name: str) -> float | None:
        return 1.0

    async def close(self) -> None:
        pass


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started = [subprocess.Popen(["sleep", "600"]) for _ in range(2)]
    yield started
    for process in started:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()


@dataclass
class Stage:
    world: World
    plan: Plan
    journal: Journal
    hand_over: HandOver

    def run(self) -> VirtcprError | None:
        try:
            asyncio.run(self.hand_over.run())
        except VirtcprError as error:
            return error
        return None


@pytest.fixture
def stage(processes: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    old, new = (Process.of(process.pid) for process in processes)
    domain = facts.domain()
    status = tmp_path / "office.xml"
    status.write_text(domain.status_xml)
    status.with_suffix(".pid").write_text(f"{old.pid}\n")
    made = replace(
        plan(domain), pid=old.pid, started=old.started, status_path=str(status), taps=(), displays=(), replay=()
    )
    made = replace(made, status=replace(made.status, lib_dir=str(tmp_path)))
    world = World(Qemu("old", old, "running"), Qemu("new", new, "inmigrate"))
    world.old.world = world.new.world = world
    record = Journal(Entry(UUID, State.SPAWNED, made.guest, old.pid, old.started), tmp_path / "journal")
    record.write(State.SPAWNED, new_pid=new.pid, new_started=new.started)
    answering = iter([world.old, world.new])

    async def connect(path: str, name: str, *, timeout: float) -> FakeMonitor:
        qemu = next(answering)
        world.hear(qemu.side, "connect")
        return FakeMonitor(qemu, name)

    monkeypatch.setattr(Monitor, "connect", connect)
    launched = NewQemu(new, (), (), tmp_path / "log", 0)
    return Stage(world, made, record, HandOver(made, launched, record, lambda _: None))


def commands() -> int:
    """How many commands a hand-over that goes well has; more than it really has does no harm."""
    return 30


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
    if len(world.said) <= at:  # it had fewer
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


def test_every_step_says_on_which_side_it_is(stage: Stage) -> None:
    sides = [step.side for step in stage.plan.steps]
    assert sides == sorted(sides, key=[Side.BEFORE, Side.AT, Side.AFTER].index)
    assert sides.count(Side.AT) == 1


# What recovery makes of a hand-over that nobody finished.


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


def test_a_guest_that_its_user_paused_after_virtcpr_died_stays_paused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At ``spawned`` nothing was done to it, and it may be long ago."""

    async def connect(path: str, name: str, *, timeout: float) -> FakeMonitor:
        return FakeMonitor(stage.world.old, name)

    monkeypatch.setattr(Monitor, "connect", connect)
    stage.world.old.status = "paused"
    outcome = asyncio.run(Settlement(journal.load(UUID, stage.journal.path.parent)).run(dry_run=False))
    assert outcome.settled is Settled.BACK
    assert stage.world.old.status == "paused"
    assert not stage.world.new.process.alive()


def test_a_defect_in_settling_one_guest_is_its_own(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are settled, and the daemon is started: nothing is raised."""

    async def connect(path: str, name: str, *, timeout: float) -> FakeMonitor:
        raise KeyError("surprise")

    monkeypatch.setattr(Monitor, "connect", connect)
    outcome = asyncio.run(Settlement(stage.journal).run(dry_run=False))
    assert (outcome.settled, outcome.text) == (Settled.UNKNOWN, "KeyError: 'surprise'")
    assert journal.pending(stage.journal.path.parent) == [UUID]


def test_the_daemon_is_not_started_beside_a_swap_that_is_left(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped() -> Daemon:
        raise HostError("no daemon")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(recovery, "Lock", lambda **_: nullcontext())
    monkeypatch.setattr(daemon, "running", stopped)
    monkeypatch.setattr(journal, "pending", lambda: [UUID])
    monkeypatch.setattr(journal, "load", lambda _: stage.journal)
    with pytest.raises(HostError, match="must not start before they are settled; nothing was done") as refused:
        recovery.recover(("another",))
    assert stage.plan.name in refused.value.message
    assert refused.value.hint == "virtcpr recover --all"
    assert stage.world.new.process.alive()
