"""A hand-over that fails, or is interrupted, at every command: one owner, or a journal that says how to settle it.

Both QEMUs are models of QMP here; their processes are real ones, that really die.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit import facts
from tests.unit.qemu_answers import RECORDED, key
from virtcpr.errors import HostError, QmpError, RolledBack, Unsettled, VirtcprError
from virtcpr.host import daemon, hooks
from virtcpr.host.daemon import Daemon
from virtcpr.host.proc import Process
from virtcpr.host.qmp import Monitor
from virtcpr.model import Recovered, Settled
from virtcpr.plan.guest import Guest
from virtcpr.plan.reconnect import QUERIES
from virtcpr.plan.steps import Side, State
from virtcpr.plan.transfer import Plan, plan
from virtcpr.swap import held, journal, owners, recovery
from virtcpr.swap.handover import HandOver
from virtcpr.swap.journal import Entry, Journal
from virtcpr.swap.owners import MOVE_SECONDS
from virtcpr.swap.settlement import Settlement
from virtcpr.swap.spawn import NewQemu

OPTIONAL = {query.command for query in QUERIES if query.optional}
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
    iothreads: tuple[str, ...] = ("iothread1",)
    world: World = field(init=False)

    def answer(self, command: str, arguments: Mapping[str, Any]) -> object:
        other = self.world.new if self.side == "old" else self.world.old
        match command:
            case "query-cpus-fast":
                return [{"cpu-index": number, "thread-id": self.process.pid} for number in (0, 1)]
            case "query-status":
                return {"status": self.status}
            case "query-migrate":
                return {"status": self.migration}
            case "query-iothreads":
                return [{"id": name, "thread-id": self.process.pid} for name in self.iothreads]
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
            case _:
                return RECORDED[self.side].get(key(command, arguments), {})
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
    own = domain.status_xml.replace("pid='1275'", f"pid='{old.pid}'", 1)
    domain = replace(domain, status_xml=own.replace("/var/lib/libvirt/qemu/domain-1-d1'", f"{tmp_path}'"))
    status.write_text(domain.status_xml)
    status.with_suffix(".pid").write_text(f"{old.pid}\n")
    made = replace(
        plan(domain), pid=old.pid, started=old.started, status_path=str(status), taps=(), displays=(), replay=()
    )
    (tmp_path / "master-key.aes").write_bytes(bytes(32))
    monkeypatch.setattr(held, "DIRECTORY", tmp_path / "held")
    monkeypatch.setattr(hooks, "put", lambda _: None)
    world = World(Qemu("old", old, "running"), Qemu("new", new, "inmigrate"))
    world.old.world = world.new.world = world
    record = Journal(Entry(UUID, State.SPAWNED, made.guest, old.pid, old.started), tmp_path / "journal")
    record.write(State.SPAWNED, new_pid=new.pid, new_started=new.started)
    answering = iter([world.old, world.new, world.new])

    async def connect(path: str, name: str, *, timeout: float) -> FakeMonitor:
        qemu = next(answering)
        world.hear(qemu.side, "connect")
        return FakeMonitor(qemu, name)

    monkeypatch.setattr(Monitor, "connect", connect)
    launched = NewQemu(new, (), (), tmp_path / "log", 0)
    return Stage(world, made, record, HandOver(made, launched, record, lambda _: None))


def commands() -> int:
    """How many commands a hand-over that goes well has; more than it really has does no harm."""
    return 100


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


def dies_soon(process: subprocess.Popen[bytes]) -> None:
    """As one that was killed: its monitor is closed by now, it itself is still there."""
    threading.Timer(0.3, process.kill).start()


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

        monkeypatch.setattr(owners, "record", tampered)

    record = owners.record
    return arrange


def test_a_guest_that_libvirt_would_kill_is_held(
    stage: Stage, tamper: Callable[[Callable[[], object]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays in new, alone; libvirt's record is where the daemon doesn't look, until what was wrong is right."""
    key_file, status = Path(stage.plan.status.lib_dir) / "master-key.aes", Path(stage.plan.status_path)
    tamper(lambda: key_file.write_bytes(bytes(31)))

    error = stage.run()

    assert isinstance(error, Unsettled)
    assert "'preflight' failed: libvirt would kill it: " in error.message
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
    assert held.names() == [status.stem]
    assert stage.world.new.process.alive()
    assert stage.world.new.status == "running"
    assert not stage.world.old.process.alive()

    key_file.write_bytes(bytes(32))
    tamper(lambda: None)
    outcome = asyncio.run(Settlement(journal.load(UUID, stage.journal.path.parent)).run(dry_run=False))

    assert outcome.settled is Settled.FORWARD
    assert f'pid="{stage.world.new.process.pid}"' in status.read_text()
    assert status.with_suffix(".pid").read_text() == f"{stage.world.new.process.pid}\n"
    assert held.names() == []
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


def test_a_domain_that_was_started_a_second_time_is_nobodys(
    stage: Stage, processes: list[subprocess.Popen[bytes]]
) -> None:
    """The record is that of a third process: it isn't touched, and neither is any of the others."""
    status = Path(stage.plan.status_path)
    status.write_text(re.sub("pid='[0-9]+'", f"pid='{os.getpid()}'", stage.plan.status_xml, count=1))
    outcome = asyncio.run(Settlement(journal.load(UUID, stage.journal.path.parent)).run(dry_run=False))
    assert outcome.settled is Settled.UNKNOWN
    assert outcome.text.startswith(f"libvirt started the domain anew, in process {os.getpid()}; old QEMU is process")
    assert status.exists()
    assert held.names() == []
    assert stage.world.old.process.alive()
    assert stage.world.new.process.alive()


def test_old_is_not_ended_once_new_is_gone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """New dies just after the point of no return, by itself: old can be reset, so it must be there still."""
    place = owners.place

    async def placed(*sides: Any) -> list[str]:
        problems = await place(*sides)
        stage.world.new.process.kill(10)
        return problems

    monkeypatch.setattr(owners, "place", placed)
    error = stage.run()
    assert isinstance(error, Unsettled)
    assert "new QEMU ended while old was there still" in error.message
    assert stage.world.old.process.alive()
    assert "old cont" not in stage.world.said


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


def test_what_can_wait_waits_for_the_paused(stage: Stage) -> None:
    """Another guest of the batch is paused: this one isn't compared, let alone moved, before that is over."""

    async def both() -> list[str]:
        stage.hand_over.pauses.begin("another")
        task = asyncio.create_task(stage.hand_over.run())
        while "new migrate-set-capabilities" not in stage.world.said:
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        before = list(stage.world.said)
        stage.hand_over.pauses.end("another")
        await task
        return before

    before = asyncio.run(both())
    assert before[-1] == "new migrate-set-capabilities"
    assert stage.world.new.status == "running"


def test_a_signal_does_not_end_recovery_half_done(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, or a terminal that is closed: the daemon starts when everything is settled, and not before."""
    done: list[str] = []

    class Stopped:
        name, recipe = "libvirtd", {"name": "libvirtd", "sockets": []}

        def stop(self) -> None:
            done.append("stopped")

        def start(self) -> None:
            done.append("started")

    async def settle(_found: object, *, dry_run: bool) -> list[Recovered]:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)
        done.append("settled")
        return []

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(recovery, "Lock", lambda **_: nullcontext())
    monkeypatch.setattr(recovery, "DriverLock", nullcontext)
    monkeypatch.setattr(recovery, "_armed", lambda _: None)
    monkeypatch.setattr(recovery, "_all", settle)
    monkeypatch.setattr(held, "refuses", lambda: True)
    monkeypatch.setattr(held, "names", list)
    monkeypatch.setattr(daemon, "running", Stopped)
    monkeypatch.setattr(daemon, "from_recipe", lambda _: Stopped())
    monkeypatch.setattr(journal, "pending", lambda: [UUID])
    monkeypatch.setattr(journal, "load", lambda _: stage.journal)
    recovery.recover(())
    assert done == ["stopped", "settled", "started"]


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
