"""``recover`` as a whole: of which domains, and what becomes of libvirt's daemon."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import NoReturn

import pytest

from tests.unit.support.transfer_stage import UUID, Stage
from virtcpr.actions import recover
from virtcpr.actions.daemon import blackout
from virtcpr.actions.reboot import settle
from virtcpr.actions.records import journal, pending, quarantine, saves
from virtcpr.actions.transfer import settle_all
from virtcpr.actions.transfer.resources import helpers
from virtcpr.actions.transfer.settle import Settlement
from virtcpr.errors import HostError, UsageError
from virtcpr.host.libvirt import daemon
from virtcpr.host.libvirt.daemon import Daemon
from virtcpr.host.processes import guard
from virtcpr.model import Recovered, Settled
from virtcpr.plan.steps import State


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


@pytest.fixture
def left(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A swap is left, of a virtcpr that is dead; nobody else is at work, and no guardian can be had."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(recover, "Lock", lambda **_: nullcontext())
    monkeypatch.setattr(guard, "arm", no_guardian)
    monkeypatch.setattr(quarantine, "refuses", lambda: True)
    monkeypatch.setattr(quarantine, "held", dict)
    monkeypatch.setattr(journal, "pending", lambda: [UUID])
    monkeypatch.setattr(journal, "load", lambda _: stage.journal)
    return stage


def test_a_signal_does_not_end_recovery_half_done(left: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
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

    monkeypatch.setattr(blackout, "DriverLock", nullcontext)
    monkeypatch.setattr(settle_all, "_all", settle)
    monkeypatch.setattr(daemon, "running", Stopped)
    monkeypatch.setattr(daemon, "from_recipe", lambda _: Stopped())
    recover.recover(())
    assert done == ["stopped", "settled", "started"]


def test_a_daemon_that_does_not_even_stop_settles_nothing(left: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck:
        name, recipe, process = "libvirtd", {"name": "libvirtd", "sockets": []}, None

        def stop(self) -> None:
            raise HostError("the daemon doesn't stop")

        def start(self) -> None:
            raise HostError("the daemon doesn't start")

    monkeypatch.setattr(daemon, "running", Stuck)
    monkeypatch.setattr(daemon, "from_recipe", lambda _: Stuck())
    with pytest.raises(HostError, match="the daemon doesn't start; no swap was settled"):
        recover.recover(())
    assert left.world.said == []


def test_a_daemon_that_is_just_starting_is_stopped_when_it_has_its_lock(
    left: Stage, monkeypatch: pytest.MonkeyPatch
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

    monkeypatch.setattr(blackout, "DriverLock", Locked)
    monkeypatch.setattr(settle_all, "_all", settle)
    monkeypatch.setattr(daemon, "running", look)
    monkeypatch.setattr(daemon, "from_recipe", lambda _: Starting())
    recover.recover(())
    assert done == ["stopped", "settled", "let in", "started"]


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


def test_ctrl_z_stops_nothing_while_a_save_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its guest may be loaded, and paused."""
    seen = list[bool]()

    def settled(*_: object, **__: object) -> tuple[Recovered, ...]:
        seen.append(signal.SIG_DFL in map(signal.getsignal, (signal.SIGTSTP, signal.SIGTTOU)))
        return ()

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(recover, "Lock", lambda **_: nullcontext())
    monkeypatch.setattr(settle_all, "settle_all", settled)
    monkeypatch.setattr(settle, "settle_all", settled)
    recover.recover(())
    assert seen == [False, False]
