"""What recovery makes of a swap that was settled half-way before, or whose guest libvirt has had since."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.support.transfer_stage import UUID, FakeMonitor, Qemu, Stage
from virtcpr.actions.records import journal, quarantine
from virtcpr.actions.transfer import reconnect_check
from virtcpr.actions.transfer.resources import helpers, tcp_ports
from virtcpr.actions.transfer.settle import Settlement
from virtcpr.errors import HostError
from virtcpr.host.processes.keeper import Keeper
from virtcpr.host.qemu.qmp import Monitor
from virtcpr.model import Recovered, Settled
from virtcpr.plan.steps import State

Settle = Callable[[], Recovered]


@pytest.fixture
def settle(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Settle:
    """Whichever process is alive answers on the monitor."""

    async def connect(path: str, name: str, *, timeout: float) -> FakeMonitor:
        alive: Qemu = next(one for one in (stage.world.new, stage.world.old) if one.process.alive())
        return FakeMonitor(alive, name)

    monkeypatch.setattr(Monitor, "connect", connect)
    return lambda: asyncio.run(Settlement(journal.load(UUID, stage.journal.path.parent)).run(dry_run=False))


@pytest.fixture
def committing(stage: Stage) -> Stage:
    """New has died at ``committing``; old waits with its state of before."""
    stage.journal.write(State.COMMITTING)
    stage.world.new.process.kill(10)
    stage.world.old.status, stage.world.old.migration = "postmigrate", "completed"
    return stage


def test_a_guest_that_was_reset_and_did_not_resume_does_the_next_time(committing: Stage, settle: Settle) -> None:
    """As when a backup program had its disk's lock: QEMU is ``prelaunch`` after the reset."""
    world = committing.world
    refused = settle_with_failure(committing, settle, "old cont")
    assert refused.settled is Settled.UNKNOWN
    assert (world.old.status, world.said.count("old system_reset")) == ("prelaunch", 1)

    outcome = settle()

    assert (outcome.settled, world.old.status) == (Settled.BACK, "running")
    assert outcome.text.startswith("the guest runs on in old QEMU")


def settle_with_failure(stage: Stage, settle: Settle, command: str) -> Recovered:
    """The command fails once: what goes before it is the same in each run."""
    hear = stage.world.hear

    def fails(side: str, said: str) -> None:
        if f"{side} {said}" == command:
            raise HostError('Failed to get "write" lock')
        hear(side, said)

    stage.world.hear = fails  # type: ignore[assignment,method-assign]
    try:
        return settle()
    finally:
        stage.world.hear = hear  # type: ignore[method-assign]


def test_what_a_keeper_has_is_given_up_before_old_runs_on(
    committing: Stage, settle: Settle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be too old from then on, and old may crash before the swap is settled."""

    async def fails(*_: object) -> object:
        raise HostError("the monitor doesn't answer")

    monkeypatch.setattr(Keeper, "fetch", lambda _: None)
    said = committing.world.said
    monkeypatch.setattr(Keeper, "end", lambda _: said.append("the keeper ends"))
    monkeypatch.setattr(reconnect_check, "second", fails)
    committing.journal.write(State.INCOMING, keeper="/run/virtcpr/kept/x")

    assert settle().settled is Settled.UNKNOWN

    assert said.index("the keeper ends") < said.index("old cont")


@pytest.fixture
def adopted(stage: Stage) -> Stage:
    """The daemon had the guest in new; virtcpr ended before it had looked at it."""
    stage.journal.write(State.ADOPTED)
    stage.world.old.process.kill(10)
    stage.world.new.status, stage.world.new.migration = "running", "completed"
    return stage


def test_a_guest_that_was_suspended_since_stays_suspended(adopted: Stage, settle: Settle) -> None:
    adopted.world.new.status = "paused"
    assert settle().settled is Settled.FORWARD
    assert adopted.world.new.status == "paused"


def test_a_guest_that_was_shut_down_since_is_not_lost(
    adopted: Stage, settle: Settle, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopted.world.new.process.kill(10)
    Path(adopted.plan.status_path).unlink()  # libvirt has seen its end
    monkeypatch.setattr(helpers, "end", lambda _: pytest.fail("they are libvirt's"))
    outcome = settle()
    assert outcome.settled is Settled.NOTHING
    assert outcome.text.startswith("the guest was handed to libvirt in new QEMU, and has ended since: it was shut down")
    assert outcome.text.endswith("(virsh domstate --reason d1)")
    assert journal.pending(adopted.journal.path.parent) == []


@pytest.mark.parametrize(
    ("state", "settled"),
    [(State.ADOPTED, Settled.NOTHING), (State.DONE, Settled.NOTHING), (State.RECEIVED, Settled.LOST)],
    ids=str,
)
def test_one_that_was_started_again_since_keeps_its_record_and_helpers(
    adopted: Stage, settle: Settle, monkeypatch: pytest.MonkeyPatch, state: State, settled: Settled
) -> None:
    """They have the same paths if libvirt gave it the same id."""
    adopted.journal.write(state)
    adopted.world.new.process.kill(10)
    record = Path(adopted.plan.status_path)
    record.write_text(re.sub("pid='[0-9]+'", f"pid='{os.getpid()}'", adopted.plan.status_xml, count=1))
    before = record.read_text()
    monkeypatch.setattr(helpers, "end", lambda _: pytest.fail("they are the new run's"))

    outcome = settle()

    assert outcome.settled is settled
    assert outcome.text == (
        f"libvirt started the domain again, in process {os.getpid()}; the guest of before has ended"
    )
    assert record.read_text() == before
    assert quarantine.held() == {}
    assert journal.pending(adopted.journal.path.parent) == []


def test_one_whose_end_libvirt_has_not_seen_is_lost(adopted: Stage, settle: Settle) -> None:
    adopted.world.new.process.kill(10)
    assert settle().settled is Settled.LOST


def test_ports_come_back_before_the_settings(
    committing: Stage, settle: Settle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its ports old doesn't come to its clean-up, and that is waited for."""

    def give_back(*_: object) -> list[str]:
        committing.world.said.append("ports")
        return []

    monkeypatch.setattr(tcp_ports, "give_back", give_back)
    assert settle().settled is Settled.BACK
    order = [said for said in committing.world.said if said in ("old cont", "ports", "old query-yank")]
    assert order == ["old cont", "ports", "old query-yank"]
