"""libvirt's daemon is stopped in one place, and comes back on every way out of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from virtcpr.actions.daemon import blackout
from virtcpr.actions.daemon.blackout import DaemonDown, daemon_away, guarded
from virtcpr.errors import HostError
from virtcpr.host.libvirt import daemon
from virtcpr.host.processes import guard
from virtcpr.host.processes.interrupt import Interrupt
from virtcpr.host.processes.proc import Process

RECIPE = {"name": "libvirtd", "sockets": []}


@dataclass
class World:
    """What is done to the daemon and the guardian, in order; ``refuse`` makes a call fail so many times."""

    runs: bool = True
    done: list[str] = field(default_factory=list)
    refuse: dict[str, int] = field(default_factory=dict)
    recipe: dict[str, object] = field(default_factory=lambda: dict(RECIPE))
    process: Process | None = None

    def _do(self, what: str) -> None:
        self.done.append(what)
        if self.refuse.get(what, 0) > 0:
            self.refuse[what] -= 1
            raise HostError(f"{what} fails", hint=f"{what} by hand")

    def stop(self) -> None:
        assert (daemon.stopping() is None) == (self.process is None)
        self._do("stop")
        self.runs = False

    def start(self) -> None:
        self._do("start")
        self.runs = True

    def running(self) -> World:
        if not self.runs:
            raise HostError("no daemon holds driver.pid")
        return self

    def arm(self, recipe: object) -> World:
        assert recipe == RECIPE
        self._do("arm")
        return self

    def disarm(self) -> None:
        self._do("disarm")

    def lock(self) -> Iterator[None]:
        self._do("lock")
        return nullcontext()  # type: ignore[return-value]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    made = World()
    monkeypatch.setattr(daemon, "running", made.running)
    monkeypatch.setattr(daemon, "from_recipe", lambda *_: made)
    monkeypatch.setattr(daemon, "STOPPING", tmp_path / "stopping")
    monkeypatch.setattr(guard, "RECIPE", tmp_path / "guardian.json")
    monkeypatch.setattr(guard, "arm", made.arm)
    monkeypatch.setattr(blackout, "DriverLock", made.lock)
    return made


def test_it_is_away_and_comes_back(world: World) -> None:
    with daemon_away():
        assert not world.runs
        world.done.append("act")
    assert world.done == ["arm", "stop", "lock", "act", "start", "disarm"]


def test_who_is_being_stopped_is_on_record_until_it_runs_again(world: World) -> None:
    """A run that is killed in the stop leaves a daemon that still runs, and is about to end."""
    world.process = Process.of(os.getpid())
    with daemon_away():
        assert daemon.stopping() == world.process
    assert not daemon.STOPPING.exists()


def test_one_that_a_killed_run_was_stopping_is_waited_for(world: World) -> None:
    """It has given up its lock, and isn't gone."""
    world.process, world.runs = Process.of(os.getpid()), False
    daemon.note_stopping(world.process)
    guard.RECIPE.write_text("{}")
    with daemon_away(RECIPE):
        pass
    assert world.done == ["arm", "stop", "lock", "start", "disarm"]


def test_the_guardian_watches_until_the_end_of_what_follows(world: World) -> None:
    with daemon_away() as away:
        away.end()
        assert world.runs
        world.done.append("verify")
    assert world.done == ["arm", "stop", "lock", "start", "verify", "disarm"]


@pytest.mark.parametrize("error", [ValueError("a defect"), KeyboardInterrupt(), HostError("refused")])
def test_whatever_is_raised(world: World, error: BaseException) -> None:
    with pytest.raises(type(error)), daemon_away():
        raise error
    assert world.done[-2:] == ["start", "disarm"]
    assert world.runs


def test_a_signal_waits_and_an_interrupt_outside_hears_of_it(world: World) -> None:
    with Interrupt() as outer:
        with daemon_away():
            signal.raise_signal(signal.SIGINT)
            world.done.append("act")
        assert outer.requested
    assert world.done[-3:] == ["act", "start", "disarm"]


def test_a_daemon_that_does_not_stop_is_started_again(world: World) -> None:
    world.refuse["stop"] = 1
    with pytest.raises(HostError, match=r"^stop fails$"), daemon_away():
        pytest.fail("it isn't away")
    assert world.done == ["arm", "stop", "start", "disarm"]


def test_a_defect_while_it_is_stopped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect() -> None:
        world.done.append("stop")
        raise ZeroDivisionError

    monkeypatch.setattr(world, "stop", defect)
    with pytest.raises(ZeroDivisionError), daemon_away():
        pytest.fail("it isn't away")
    assert world.done == ["arm", "stop", "start", "disarm"]


def test_nor_does_it_start(world: World) -> None:
    world.refuse |= {"stop": 1, "start": 2}
    with pytest.raises(DaemonDown, match=r"^stop fails; start fails$") as down, daemon_away():
        pytest.fail("it isn't away")
    assert down.value.hint == "start by hand"
    assert world.done == ["arm", "stop", "start", "start", "disarm"]


@pytest.mark.parametrize("times", [1, 2])
def test_it_is_started_at_the_second_try(world: World, times: int) -> None:
    world.refuse["start"] = times
    with nullcontext() if times == 1 else pytest.raises(DaemonDown, match="start fails"), daemon_away():
        pass
    assert world.done == ["arm", "stop", "lock", "start", "start", "disarm"]


def test_one_that_starts_meanwhile_is_left_running(world: World) -> None:
    """It may have begun a job by then, and have written its records anew."""
    world.refuse["lock"] = 1
    with pytest.raises(HostError, match=r"^lock fails$"), daemon_away():
        pytest.fail("it isn't away")
    assert world.done == ["arm", "stop", "lock", "start", "disarm"]


def test_where_it_must_be_away_it_is_stopped_again(world: World) -> None:
    world.refuse["lock"] = 1
    with daemon_away(insist=True):
        pass
    assert world.done == ["arm", "stop", "lock", "lock", "start", "disarm"]


def test_one_that_does_not_run_is_started_by_its_recipe(world: World) -> None:
    world.runs = False
    with daemon_away(RECIPE):
        pass
    assert world.done == ["arm", "lock", "start", "disarm"]


def test_one_that_is_just_starting_is_left_alone(world: World) -> None:
    """libvirt's own hook is asked in the middle of the daemon's start: nobody starts a second one."""
    world.runs = False
    with daemon_away(RECIPE, guardian=False, restart=False):
        pass
    assert world.done == ["lock"]


def test_without_a_guardian(world: World) -> None:
    world.refuse["arm"] = 2
    with daemon_away():
        pass
    assert world.done == ["arm", "stop", "lock", "start"]
    with pytest.raises(HostError, match="arm fails"), daemon_away(required=True):
        pytest.fail("not without it")
    assert world.done[4:] == ["arm"]


def test_there_is_one_guardian_at_most(world: World) -> None:
    with guarded(required=True):
        with daemon_away():
            pass
        assert world.done == ["arm", "stop", "lock", "start"]
    assert world.done[-1] == "disarm"


def test_libvirt_s_hook_for_saved_guests_is_no_reason_to_stop_it_without_a_guardian(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`save` does without a guardian; where it has none the daemon isn't restarted, and the report says so."""
    world.refuse["arm"] = 1
    monkeypatch.setattr(blackout, "refuse_jobs", lambda *_: None)

    class Connected:
        uri = "qemu:///system"
        close = staticmethod(lambda: None)

    with pytest.raises(HostError, match="arm fails"):
        blackout.during(Connected(), lambda: None, {}, required=True)  # type: ignore[arg-type]
    assert (world.done, world.runs) == (["arm"], True)
