"""What recovery makes of a hand-over that nobody finished."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from tests.unit.support.transfer_stage import UUID, FakeMonitor, Stage, dies_soon
from virtcpr.actions import recover
from virtcpr.actions.daemon import blackout
from virtcpr.actions.records import journal, pending, quarantine, saves
from virtcpr.actions.transfer import settle_all
from virtcpr.actions.transfer.resources import helpers
from virtcpr.actions.transfer.settle import Settlement
from virtcpr.errors import HostError, QmpError, UsageError
from virtcpr.host.libvirt import daemon
from virtcpr.host.libvirt.daemon import Daemon
from virtcpr.host.processes import guard
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


def test_the_daemon_is_not_started_beside_a_swap_that_is_left(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped() -> Daemon:
        raise HostError("no daemon")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(recover, "Lock", lambda **_: nullcontext())
    monkeypatch.setattr(daemon, "running", stopped)
    monkeypatch.setattr(journal, "pending", lambda: [UUID])
    monkeypatch.setattr(journal, "load", lambda _: stage.journal)
    monkeypatch.setattr(quarantine, "held", lambda: {"another's UUID": "another"})
    with pytest.raises(HostError, match="must not start before they are settled; nothing was done") as refused:
        recover.recover(("another",))
    assert stage.plan.name in refused.value.message
    assert refused.value.hint == "virtcpr recover --all"
    assert stage.world.new.process.alive()


class Libvirt:
    """A connection to a daemon that knows one domain, whose id is 3."""

    def __init__(self, _: str | None) -> None:
        pass

    def __enter__(self) -> Libvirt:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def lookup(self, word: str) -> SimpleNamespace:
        if word != "3":
            raise UsageError(f"there is no domain '{word}'", hint="did you mean d1?")
        return SimpleNamespace(uuid=UUID)


def test_a_name_that_nobody_knows_is_no_all_clear(interrupted: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recover, "Connection", Libvirt)
    with pytest.raises(UsageError, match="there is no domain 'd7'"):
        recover.recover(("d7",))
    assert interrupted.world.new.process.alive()


def test_whose_a_name_is_without_the_daemon(interrupted: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting to it might start it, before swaps are settled."""

    def stopped() -> Daemon:
        raise HostError("no daemon")

    monkeypatch.setattr(daemon, "running", stopped)
    monkeypatch.setattr(recover, "Connection", lambda _: pytest.fail("the daemon was asked"))
    with pytest.raises(
        HostError, match=r"^d7: nothing was interrupted under this name, but for d1, and libvirt"
    ) as error:
        recover.recover(("d7",), dry_run=True)
    assert error.value.hint == "virtcpr recover --all"


def test_the_hook_of_another_daemon_of_libvirt_settles_nothing(interrupted: Stage) -> None:
    """virtnetworkd calls it, too, and libvirt's QEMU driver runs: it would have been stopped, and not started."""
    assert recover.recover((), start_daemon=False).domains == ()
    assert interrupted.world.new.process.alive()
    assert journal.pending() == [UUID]


@pytest.mark.parametrize("names", [(), ("d1",)])
def test_saves_that_cannot_be_read_keep_no_swap_from_being_settled(
    interrupted: Stage, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    def unreadable() -> NoReturn:
        raise HostError("Input/output error")

    for one in ("broken", "readable", "sweep"):
        monkeypatch.setattr(saves, one, unreadable)
    with pytest.raises(HostError, match="Input/output error"):
        recover.recover(names)
    assert not interrupted.world.new.process.alive()


def test_nothing_was_interrupted_whatever_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recover, "Connection", lambda _: pytest.fail("the daemon was asked"))
    monkeypatch.setattr(pending, "domains", dict)
    assert recover._known(("d7",), None) == ("d7",)


def test_an_id_as_in_virsh(interrupted: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recover, "Connection", Libvirt)
    (outcome,) = recover.recover(("3",)).domains
    assert (outcome.uuid, outcome.settled) == (UUID, Settled.BACK)
    assert not interrupted.world.new.process.alive()


def no_guardian(_: object) -> guard.Guard:
    raise HostError("no guardian")


def test_a_signal_does_not_end_recovery_half_done(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, or a terminal that is closed: the daemon starts when everything is settled, and not before."""
    done: list[str] = []

    class Stopped:
        name, recipe, process = "libvirtd", {"name": "libvirtd", "sockets": []}, None

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
    monkeypatch.setattr(recover, "Lock", lambda **_: nullcontext())
    monkeypatch.setattr(blackout, "DriverLock", nullcontext)
    monkeypatch.setattr(guard, "arm", no_guardian)
    monkeypatch.setattr(settle_all, "_all", settle)
    monkeypatch.setattr(quarantine, "refuses", lambda: True)
    monkeypatch.setattr(quarantine, "held", dict)
    monkeypatch.setattr(daemon, "running", Stopped)
    monkeypatch.setattr(daemon, "from_recipe", lambda _: Stopped())
    monkeypatch.setattr(journal, "pending", lambda: [UUID])
    monkeypatch.setattr(journal, "load", lambda _: stage.journal)
    recover.recover(())
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


def test_a_daemon_that_does_not_even_stop_settles_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck:
        name, recipe, process = "libvirtd", {"name": "libvirtd", "sockets": []}, None

        def stop(self) -> None:
            raise HostError("the daemon doesn't stop")

        def start(self) -> None:
            raise HostError("the daemon doesn't start")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(recover, "Lock", lambda **_: nullcontext())
    monkeypatch.setattr(guard, "arm", no_guardian)
    monkeypatch.setattr(quarantine, "refuses", lambda: True)
    monkeypatch.setattr(quarantine, "held", dict)
    monkeypatch.setattr(daemon, "running", Stuck)
    monkeypatch.setattr(daemon, "from_recipe", lambda _: Stuck())
    monkeypatch.setattr(journal, "pending", lambda: [UUID])
    monkeypatch.setattr(journal, "load", lambda _: stage.journal)
    with pytest.raises(HostError, match="the daemon doesn't start; no swap was settled"):
        recover.recover(())
    assert stage.world.said == []


def test_a_daemon_that_is_just_starting_is_stopped_when_it_has_its_lock(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It isn't seen at first: libvirt takes the lock on driver.pid some time after systemd calls it started."""
    done: list[str] = []
    seen = iter([None, "libvirtd"])

    class Starting:
        name, recipe, process = "libvirtd", {"name": "libvirtd", "sockets": []}, None

        def stop(self) -> None:
            done.append("stopped")

        def start(self) -> None:
            done.append("started")

    class Locked:
        def __enter__(self) -> None:
            if "stopped" not in done:
                raise HostError("libvirt's daemon was started again meanwhile")

        def __exit__(self, *_: object) -> None:
            done.append("let in")

    def look() -> Starting:
        if next(seen) is None:
            raise HostError("no daemon holds driver.pid")
        return Starting()

    async def settle(_found: object, *, dry_run: bool) -> list[Recovered]:
        done.append("settled")
        return []

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(recover, "Lock", lambda **_: nullcontext())
    monkeypatch.setattr(blackout, "DriverLock", Locked)
    monkeypatch.setattr(guard, "arm", no_guardian)
    monkeypatch.setattr(settle_all, "_all", settle)
    monkeypatch.setattr(quarantine, "refuses", lambda: True)
    monkeypatch.setattr(quarantine, "held", dict)
    monkeypatch.setattr(daemon, "running", look)
    monkeypatch.setattr(daemon, "from_recipe", lambda _: Starting())
    monkeypatch.setattr(journal, "pending", lambda: [UUID])
    monkeypatch.setattr(journal, "load", lambda _: stage.journal)
    recover.recover(())
    assert done == ["stopped", "settled", "let in", "started"]


class Runs:
    """libvirt's daemon, which must not be stopped: that would cancel the jobs of other domains."""

    name, recipe = "libvirtd", {"name": "libvirtd", "sockets": []}

    def stop(self) -> None:
        pytest.fail("libvirt's daemon was stopped")


@pytest.fixture
def interrupted(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """virtcpr was killed when new QEMU was started, before the blackout."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(recover, "Lock", lambda **_: nullcontext())
    monkeypatch.setattr(quarantine, "refuses", lambda: True)
    monkeypatch.setattr(quarantine, "held", dict)
    monkeypatch.setattr(daemon, "running", Runs)
    directory = stage.journal.path.parent
    monkeypatch.setattr(journal, "pending", lambda: [path.stem for path in directory.glob("*.json")])
    monkeypatch.setattr(journal, "load", lambda uuid: stage.journal)
    stage.journal.write(State.PLANNED)
    return stage


def test_before_the_blackout_only_new_qemu_is_ended(interrupted: Stage) -> None:
    (outcome,) = recover.recover((), wait=True).domains
    old = interrupted.world.old.process
    assert (outcome.settled, outcome.state) == (Settled.BACK, "planned")
    assert outcome.text == f"the guest runs on in old QEMU (process {old.pid})"
    assert old.alive()
    assert not interrupted.world.new.process.alive()
    assert interrupted.world.said == []
    assert journal.pending() == []


def test_what_could_not_be_given_back_is_said(interrupted: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers, "give_back", lambda _: ["its TPM may not work: x"])
    outcome = Settlement(interrupted.journal).end_spawned()
    assert outcome.settled is Settled.BACK
    assert outcome.text.endswith("; its TPM may not work: x")


def test_a_guest_that_ended_before_the_blackout(interrupted: Stage) -> None:
    interrupted.world.old.process.kill(10)
    (outcome,) = recover.recover(()).domains
    assert outcome.settled is Settled.NOTHING
    assert outcome.text == "the guest has ended; its new QEMU, which never had it, has ended, too"
    assert not interrupted.world.new.process.alive()


def test_a_suspended_guest_before_the_blackout(interrupted: Stage) -> None:
    guest = replace(interrupted.plan.guest, runs=False)
    interrupted.journal.write(State.PLANNED, guest=guest)
    outcome = Settlement(interrupted.journal).end_spawned()
    assert outcome.text.startswith("the guest is suspended as before in old QEMU")


def test_a_new_qemu_that_is_just_being_executed_is_ended(interrupted: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """virtcpr was killed before it could note its process."""
    new, looks = interrupted.world.new.process, iter([None, None])
    interrupted.journal.write(State.PLANNED, new_pid=None, new_started=None)
    monkeypatch.setattr(Settlement, "_find_new", lambda _: next(looks, new))
    assert Settlement(interrupted.journal).end_spawned().settled is Settled.BACK
    assert not new.alive()


def test_a_new_qemu_that_cannot_be_ended_stays_unsettled(interrupted: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def stays(_: Settlement) -> None:
        raise HostError("new QEMU (process 7) can't be killed")

    monkeypatch.setattr(Settlement, "_end_new", stays)
    outcome = Settlement(interrupted.journal).end_spawned()
    assert (outcome.settled, outcome.text) == (Settled.UNKNOWN, "new QEMU (process 7) can't be killed")
    assert journal.pending() == [UUID]
