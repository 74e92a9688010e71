"""Settling an interrupted save or restore: every remedy, on processes as they may be found."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from tests.unit.support.reboot_stage import DOMAIN, NAME, UUID, WAITS, RebootStage, Shelf
from virtcpr.actions.daemon import qemu_hook, reconnect
from virtcpr.actions.inspect.emulators import Emulators
from virtcpr.actions.reboot import restore_guest, settle, strip
from virtcpr.actions.records import saves
from virtcpr.errors import HostError, UsageError
from virtcpr.host.files import ram_files
from virtcpr.host.libvirt import daemon
from virtcpr.host.processes import guard
from virtcpr.model import Recovered, Settled
from virtcpr.plan.reboot.recovery import Found, Purpose, Stage

Make = Callable[[RebootStage], None]
CONNECTED = settle._connected


def saving(stage: RebootStage, at: Stage = Stage.SAVING) -> None:
    """virtcpr is killed when old QEMU has written its state; it may have told it to stand still."""
    made = stage.saving()
    made.record.write(Stage.SAVING)
    made._keep()
    saved = made._save()
    if at is Stage.SAVED:
        made.record.write(Stage.SAVED, **saved)
    stage.world.said.clear()


def whole(stage: RebootStage) -> None:
    saving(stage, Stage.SAVED)


def starting(stage: RebootStage, *, loaded: bool, at: Stage = Stage.STARTING, purpose: Purpose = Purpose.SAVE) -> None:
    """virtcpr is killed when libvirt has started new QEMU, or when that has loaded the state."""
    one = stage.saved(purpose)
    made = restore_guest.Restoring(stage.connection, one, DOMAIN.emulator, lambda _: None)
    one.write(Stage.STARTING)
    made._start()
    if loaded:
        made._load()
    one.write(at)
    stage.world.said.clear()


def look(stage: RebootStage) -> Found:
    return settle.found(stage.connection, stage.record)


def ended(stage: RebootStage) -> None:
    assert not stage.world.active()
    assert (stage.stage, stage.left()) == (Stage.SAVED, WAITS)


def on_in_old(stage: RebootStage) -> None:
    assert (stage.world.now.number, stage.world.now.status, stage.world.now.mode) == (1, "running", "normal")
    assert stage.left() == set()


def on_in_new(stage: RebootStage) -> None:
    assert (stage.world.now.number, stage.world.now.status, stage.world.now.mode) == (2, "running", "normal")
    assert stage.left() == set()


@pytest.mark.parametrize("make", [saving, whole])
def test_a_guest_whose_old_process_lives_goes_back(reboot_stage: RebootStage, make: Make) -> None:
    make(reboot_stage)
    assert look(reboot_stage) is Found.OLD_RESTING
    outcome = reboot_stage.settle()
    assert outcome == Recovered(NAME, UUID, outcome.state, "resting", "gone", Settled.BACK, "the guest runs on")
    on_in_old(reboot_stage)


def test_one_that_was_told_to_stand_still_goes_on(reboot_stage: RebootStage) -> None:
    """virtcpr was killed between SIGSTOP and SIGKILL."""
    whole(reboot_stage)
    process = reboot_stage.world.now.process
    os.kill(process.pid, signal.SIGSTOP)
    assert reboot_stage.settle().settled is Settled.BACK
    while (state := (process.path / "stat").read_text().rpartition(")")[2].split()[0]) == "T":
        time.sleep(0.01)
    assert state in "RS"


def test_one_that_was_resumed_meanwhile_is_left_running(reboot_stage: RebootStage) -> None:
    saving(reboot_stage)
    reboot_stage.world.now.go()
    assert look(reboot_stage) is Found.OLD_RUNNING
    assert reboot_stage.settle().settled is Settled.BACK
    assert not {"resume", "cont"} & set(reboot_stage.world.said)
    on_in_old(reboot_stage)


@pytest.mark.parametrize("make", [saving, whole])
def test_one_whose_old_process_has_ended(reboot_stage: RebootStage, make: Make) -> None:
    make(reboot_stage)
    reboot_stage.world.kill()
    assert look(reboot_stage) is Found.GONE
    outcome = reboot_stage.settle()
    if make is saving:
        assert outcome.settled is Settled.LOST
        assert outcome.text == "its QEMU ended while it was being saved; the domain can be started"
        assert reboot_stage.left() == set()
    else:
        assert outcome.settled is Settled.WAITING
        assert outcome.text == f"its state waits: 'virtcpr restore {NAME}' lets it go on"
        ended(reboot_stage)


@pytest.mark.parametrize("loaded", [False, True])
def test_a_process_that_never_ran_the_guest_is_ended(reboot_stage: RebootStage, loaded: bool) -> None:
    starting(reboot_stage, loaded=loaded)
    ram_files.announce(UUID, "")  # virtcpr was killed before it could take that back
    assert look(reboot_stage) is (Found.NEW_LOADED if loaded else Found.NEW_WAITING)
    assert reboot_stage.settle().settled is Settled.WAITING
    ended(reboot_stage)
    assert reboot_stage.restore(reboot_stage.record) is None
    assert reboot_stage.world.now.status == "running"


@pytest.mark.parametrize("loaded", [False, True])
def test_an_upgrade_is_finished(reboot_stage: RebootStage, loaded: bool) -> None:
    starting(reboot_stage, loaded=loaded, purpose=Purpose.UPGRADE)
    first = reboot_stage.world.now
    outcome = reboot_stage.settle()
    assert (outcome.settled, outcome.text) == (Settled.FORWARD, "restored from its file")
    assert not first.process.alive()
    assert reboot_stage.world.now.status == "running"
    assert reboot_stage.left() == set()


def test_an_upgrade_that_cannot_be_finished_waits(reboot_stage: RebootStage) -> None:
    starting(reboot_stage, loaded=False, purpose=Purpose.UPGRADE)
    reboot_stage.record.state_path.write_bytes(b"damaged")
    outcome = reboot_stage.settle()
    assert outcome.settled is Settled.UNKNOWN
    assert "its state is cut off" in outcome.text
    assert saves.DISCARD.format(name=NAME) in outcome.text
    ended(reboot_stage)


@pytest.mark.parametrize("age", [0.0, 3600.0])
def test_an_upgrade_on_disks_that_nobody_can_tell_of_is_finished_at_once_or_by_hand(
    reboot_stage: RebootStage, age: float
) -> None:
    """An hour later a cluster manager may have started it elsewhere."""
    disk = "<disk type='network'><source protocol='rbd' name='pool/a'/><target dev='vdx'/></disk>"
    facts = reboot_stage.world.facts
    reboot_stage.world.facts = replace(facts, xml=facts.xml.replace("</devices>", f"{disk}</devices>"))
    path = reboot_stage.saved(Purpose.UPGRADE).state_path
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    outcome = reboot_stage.settle()
    if age:
        assert outcome.settled is Settled.UNKNOWN
        assert f"virtcpr restore --disks-unchanged {NAME}" in outcome.text
        ended(reboot_stage)
    else:
        assert outcome.settled is Settled.FORWARD


@pytest.mark.parametrize("stage", [Stage.STARTING, Stage.RESUMING])
def test_one_that_somebody_let_run_keeps_running(reboot_stage: RebootStage, stage: Stage) -> None:
    starting(reboot_stage, loaded=True, at=stage)
    reboot_stage.world.now.go()
    assert look(reboot_stage) is Found.NEW_RUNNING
    assert reboot_stage.settle().settled is Settled.FORWARD
    on_in_new(reboot_stage)


def test_one_that_may_run_is_let_run(reboot_stage: RebootStage) -> None:
    starting(reboot_stage, loaded=True, at=Stage.RESUMING)
    assert look(reboot_stage) is Found.NEW_LOADED
    outcome = reboot_stage.settle()
    assert (outcome.settled, outcome.text) == (Settled.FORWARD, "the guest runs in new QEMU")
    on_in_new(reboot_stage)


def test_one_that_may_have_run_and_is_gone_is_lost(reboot_stage: RebootStage) -> None:
    starting(reboot_stage, loaded=True, at=Stage.RESUMING)
    reboot_stage.world.kill()
    outcome = reboot_stage.settle()
    assert outcome.settled is Settled.LOST
    assert outcome.text == "its new QEMU ended, and may have run the guest; the domain can be started"
    assert reboot_stage.left() == set()


# Who can't be told.


def stranger(stage: RebootStage) -> None:
    """Somebody started the domain afresh: without libvirt's hook that can be done."""
    stage.saved()
    stage.world.start(status="running")


def deaf(stage: RebootStage) -> None:
    saving(stage)
    qemu = stage.world.now

    def no(*_: object) -> object:
        raise HostError("libvirt's daemon didn't answer")

    qemu.answer = no  # type: ignore[method-assign, assignment]


def out_of_sight(stage: RebootStage) -> None:
    """libvirt doesn't know the domain, and its process lives."""
    saving(stage)
    stage.world.qemu = None


@pytest.mark.parametrize(
    ("make", "seen"), [(stranger, Found.STRANGER), (deaf, Found.SILENT), (out_of_sight, Found.SILENT)]
)
def test_nothing_is_done_where_nobody_can_tell(reboot_stage: RebootStage, make: Make, seen: Found) -> None:
    make(reboot_stage)
    before = (reboot_stage.stage, reboot_stage.left())
    assert look(reboot_stage) is seen
    outcome = reboot_stage.settle()
    assert (outcome.settled, outcome.new) == (Settled.UNKNOWN, seen.value)
    directory = reboot_stage.record.directory
    assert outcome.text == f"it isn't known which process has the guest; nothing was done: virsh list; {directory}"
    assert (reboot_stage.stage, reboot_stage.left()) == before
    assert reboot_stage.world.children[-1].poll() is None


def test_a_process_that_ends_while_it_is_looked_at(reboot_stage: RebootStage) -> None:
    """Its command line can't be read: no reason to leave other domains unsettled."""
    starting(reboot_stage, loaded=False)
    world = reboot_stage.world
    world.at, world.then = 2, world.kill  # find, active, query-status
    assert look(reboot_stage) is Found.SILENT
    assert reboot_stage.settle().settled is Settled.WAITING
    ended(reboot_stage)


@pytest.mark.parametrize(
    "make", [saving, whole, stranger, lambda stage: starting(stage, loaded=True, at=Stage.RESUMING)]
)
def test_a_dry_run_changes_nothing(reboot_stage: RebootStage, make: Make) -> None:
    make(reboot_stage)
    before = (reboot_stage.stage, reboot_stage.left(), replace(reboot_stage.world.now))
    outcome = reboot_stage.settle(dry_run=True)
    assert outcome.settled is Settled.PENDING
    assert outcome.text.startswith("as it looks now: ")
    assert (reboot_stage.stage, reboot_stage.left(), reboot_stage.world.now) == before


def test_one_that_was_asked_to_sleep_and_does_so_after_virtcpr_died_is_woken(reboot_stage: RebootStage) -> None:
    made = reboot_stage.saving(suspend=True)
    made.record.write(Stage.SAVING, asked=True)
    world = reboot_stage.world
    qemu = world.now

    def sleep() -> None:
        qemu.asleep = True
        qemu.go()

    # Seen awake twice: by whoever settles it, and when the guest is to go on.
    world.said.clear()
    world.at, world.then = 6, sleep
    outcome = settle.settle(reboot_stage.connection, reboot_stage.record, cast(Emulators, Shelf()), dry_run=False)
    mode = "query-migrate-parameters"
    assert world.said[:7] == ["find", "active", "query-status", "find", mode, "query-status", "query-status"]
    assert (outcome.settled, outcome.text) == (Settled.BACK, "the guest runs on")
    assert (qemu.status, qemu.asleep) == ("running", False)
    assert reboot_stage.left() == set()


CASES: dict[str, Make] = {
    "back": whole,
    "wait": lambda stage: starting(stage, loaded=True),
    "restore": lambda stage: starting(stage, loaded=True, purpose=Purpose.UPGRADE),
    "forward": lambda stage: starting(stage, loaded=True, at=Stage.RESUMING),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("number", range(20))
def test_interrupted_again_it_is_settled_the_next_time(reboot_stage: RebootStage, case: str, number: int) -> None:
    CASES[case](reboot_stage)
    world = reboot_stage.world
    world.at, world.then = number, world.refuse
    settle.settle(reboot_stage.connection, reboot_stage.record, cast(Emulators, Shelf()), dry_run=False)
    alive = sum(child.poll() is None for child in world.children)
    assert alive <= 1
    if reboot_stage.stage is not None:
        outcome = reboot_stage.settle()
        assert outcome.settled in (Settled.BACK, Settled.WAITING, Settled.FORWARD), outcome
    if case == "wait":
        ended(reboot_stage)
    else:
        assert world.now.status == "running"
        assert reboot_stage.left() == set()


# All of them.


@pytest.fixture
def host(reboot_stage: RebootStage, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The host's own places are this stage's; what is done beside settling."""
    done: list[str] = []
    directory = reboot_stage.world.directory / "saved"
    for function in (saves.waiting, saves.readable, saves.broken):
        monkeypatch.setattr(function, "__defaults__", (directory,))
    monkeypatch.setattr(settle, "_connected", CONNECTED)

    class Connected:
        find = staticmethod(reboot_stage.connection.find)
        alive = staticmethod(lambda: "dead" not in done)
        close = staticmethod(lambda: done.append("closed"))

    def noting(what: str, answer: Callable[..., object]) -> Callable[..., object]:
        def act(*arguments: object, **more: object) -> object:
            done.append(what)
            return answer(*arguments, **more)

        return act

    def connected(_: object, before: Callable[[], object] = lambda: None) -> Connected:
        before()
        done.append("connected")
        return Connected()

    recipe = reboot_stage.world.directory / "guardian.json"
    recipe.write_text("{}")
    monkeypatch.setattr(guard, "RECIPE", recipe)
    monkeypatch.setattr(daemon, "running", object)
    monkeypatch.setattr(daemon, "STOPPING", reboot_stage.world.directory / "stopping")
    monkeypatch.setattr(reconnect, "reconnect", connected)
    monkeypatch.setattr(qemu_hook, "ready", noting("hook", lambda connection, **_: connection))
    monkeypatch.setattr(
        strip, "strip_in_blackout", noting("stripped", lambda connection, _: strip.Stripped(connection))
    )
    return done


def test_without_any_the_daemon_is_not_asked(reboot_stage: RebootStage, host: list[str]) -> None:
    assert settle.settle_all((), dry_run=False) == ()
    assert host == []


def test_a_start_that_the_daemon_waits_for_goes_first(
    reboot_stage: RebootStage, host: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole(reboot_stage)
    monkeypatch.setattr(strip, "stuck_starts", lambda _: {UUID})
    settle.settle_all((), dry_run=False)
    assert host == ["connected", "stripped", "hook", "stripped", "closed"]


@pytest.mark.parametrize("names", [(), (NAME,), (UUID,), (UUID, "other")])
def test_all_and_some(reboot_stage: RebootStage, host: list[str], names: tuple[str, ...]) -> None:
    whole(reboot_stage)
    assert settle.settle_all(("other",), dry_run=False) == ()
    (outcome,) = settle.settle_all(names, dry_run=False)
    assert outcome.settled is Settled.BACK
    assert host == ["connected", "hook", "stripped", "closed"]


def test_a_dry_run_stops_no_daemon(reboot_stage: RebootStage, host: list[str]) -> None:
    whole(reboot_stage)
    (outcome,) = settle.settle_all((), dry_run=True)
    assert outcome.settled is Settled.PENDING
    assert host == ["connected", "closed"]


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("recipe", ["{}", "", None])
def test_a_daemon_that_was_left_stopped_is_started(
    reboot_stage: RebootStage, host: list[str], monkeypatch: pytest.MonkeyPatch, recipe: str | None, dry_run: bool
) -> None:
    """virtcpr was killed in the blackout; without a note of how it is started, it is left to whoever stopped it."""

    def none() -> None:
        raise HostError("no daemon")

    class Stopped:
        def start(self) -> None:
            host.append("started")

    monkeypatch.setattr(daemon, "running", none)
    monkeypatch.setattr(daemon, "from_recipe", lambda *_: Stopped())
    if recipe is None:
        guard.RECIPE.unlink()
    else:
        guard.RECIPE.write_text(recipe)
    whole(reboot_stage)
    settle.settle_all((), dry_run=dry_run)
    assert host[0] == ("started" if recipe == "{}" and not dry_run else "connected")


BUSY = HostError("libvirt is busy with mail (backup)", hint="wait for it")


@pytest.mark.parametrize("dead", [False, True])
def test_without_the_hook_no_guest_is_started_and_every_other_is_settled(
    reboot_stage: RebootStage, host: list[str], monkeypatch: pytest.MonkeyPatch, *, dead: bool
) -> None:
    """The daemon would have to be restarted to find the hook, and can't be: a paused guest needn't wait for that."""

    def busy(_: object, **__: object) -> None:
        host.extend(["dead"] * dead)  # it was closed to stop the daemon
        raise BUSY

    monkeypatch.setattr(qemu_hook, "ready", busy)
    whole(reboot_stage)
    (outcome,) = settle.settle_all((), dry_run=False)
    assert outcome.settled is Settled.BACK
    assert host.count("connected") == 1 + dead
    reboot_stage.saved(Purpose.UPGRADE)
    (outcome,) = settle.settle_all((), dry_run=False)
    assert (outcome.settled, outcome.text) == (Settled.UNKNOWN, f"{BUSY.message}; its state waits: {BUSY.hint}")
    assert reboot_stage.record.saved.stage is Stage.SAVED


def test_the_daemon_of_the_system_is_asked_whatever_the_default_is(
    reboot_stage: RebootStage, host: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions have no mode reboot; the default may even be another host."""
    asked: list[str | None] = []

    def refused(uri: str | None, before: object = None) -> None:
        asked.append(uri)
        raise UsageError("another host")

    monkeypatch.setattr(reconnect, "reconnect", refused)
    whole(reboot_stage)
    record = reboot_stage.record
    monkeypatch.setattr(saves, "load", lambda *_: record)
    assert settle.settle_now(UUID) is None
    with pytest.raises(UsageError):
        settle.settle_all((), dry_run=True)
    assert asked == ["qemu:///system"] * 2


def test_one_that_cannot_be_understood_is_named(reboot_stage: RebootStage, host: list[str]) -> None:
    whole(reboot_stage)
    other: Path = reboot_stage.world.directory / "saved" / (UUID[:-1] + "0")
    other.mkdir()
    (other / "record.json").write_text("{}")
    (other / "record.json").chmod(0o600)
    first, second = settle.settle_all((), dry_run=False)
    assert (first.uuid, first.settled) == (other.name, Settled.UNKNOWN)
    assert f"virtcpr restore --discard {other.name}" in first.text
    assert second.settled is Settled.BACK
