"""Mode live: a hand-over with a copy of RAM that fails, or is interrupted, at every command; and how long it copies."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support.transfer_stage import OPTIONAL, UUID, Stage
from virtcpr.actions.monitor import precopy
from virtcpr.actions.monitor.precopy import Copied
from virtcpr.actions.records import journal
from virtcpr.actions.records.journal import Journal
from virtcpr.actions.transfer import copying
from virtcpr.actions.transfer.copying import Copying
from virtcpr.errors import HostError, RolledBack, Unsettled
from virtcpr.model import Mode, Progress
from virtcpr.plan.steps import LIVE, SPAWN, State

LIMITS = {"max-bandwidth": 7, "downtime-limit": 1, "multifd-channels": 2, "max-cpu-throttle": 99}
COMMANDS = 120  # more than it has
MIB = 1 << 20


@pytest.fixture
def live(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """The stage of a hand-over in mode live."""
    monkeypatch.setattr(precopy, "SAMPLE_SECONDS", 0)
    waits, go = os.pipe()
    stage.plan = replace(stage.plan, mode=Mode.LIVE, steps=LIVE, limits=LIMITS)
    stage.journal = Journal(replace(stage.journal.entry, guest=stage.plan.guest), stage.journal.path.parent)
    new, old = stage.hand_over.new, stage.hand_over
    new.go = go
    daemon: Any = old._daemon
    stage.hand_over = Copying(stage.plan, new, stage.journal, lambda _: None, daemon)
    yield stage
    os.close(waits)


def test_every_step_is_bound(live: Stage) -> None:
    assert {step.name for step in LIVE} - {SPAWN.name} <= live.hand_over._actions.keys()


def test_when_nothing_fails(live: Stage) -> None:
    record = Path(live.plan.status_path)
    bare = record.read_text().replace("<access mode='shared'/>", "").replace("aux-ram-share=on", "usb=off")
    record.write_text(bare)
    live.plan = live.hand_over.plan = replace(live.plan, status_xml=bare)

    assert live.run() is None

    world = live.world
    assert len(world.said) < COMMANDS
    assert (world.new.status, world.both_ran) == ("running", False)
    assert not world.old.process.alive()
    written = record.read_text()
    assert f'pid="{world.new.process.pid}"' in written
    assert ('<access mode="shared"/>' in written, "aux-ram-share=on" in written) == (True, True)


@pytest.mark.parametrize("cancel", [False, True], ids=["fails", "ctrl-c"])
@pytest.mark.parametrize("at", range(COMMANDS))
def test_at_every_command(live: Stage, at: int, cancel: bool) -> None:
    world = live.world
    world.fail_at, world.cancel = at, cancel

    error = live.run()

    assert not world.both_ran
    said = journal.load(UUID, live.journal.path.parent).entry.state
    if len(world.said) <= at or (not cancel and world.said[at].split()[1] in OPTIONAL):
        assert error is None
    elif isinstance(error, RolledBack):
        assert said is State.ROLLED_BACK
        assert not world.new.process.alive()
        assert (world.old.process.alive(), world.old.status) == (True, "running")
        assert world.old.migration in ("none", "cancelled", "completed")
    elif error is not None:
        assert isinstance(error, Unsettled), error
        assert said in (State.COMMITTING, State.RUNNING)
        assert (world.new.process.alive(), world.old.process.alive()) == (True, False)
    else:  # how fast it writes needn't be known; once it runs in new, its migrations' settings are no reason to fail
        assert world.said[at] in ("old calc-dirty-rate", "new migrate-set-capabilities")


def copied(
    live: Stage, monkeypatch: pytest.MonkeyPatch, *seen: Copied, sampled: int = 0, first: str = ""
) -> list[Progress]:
    """What it shows while QEMU says this of itself, until it holds QEMU up.  ``sampled``: MiB/s before it copied."""
    looks, shown = iter(seen), list[Progress]()
    over = live.hand_over
    assert isinstance(over, Copying)

    async def look(_: object) -> Copied:
        return next(looks)

    over.watch = shown.append
    monkeypatch.setattr(precopy, "look", look)
    monkeypatch.setattr(copying, "POLL", 0)
    monkeypatch.setattr(copying, "SHOWN_EVERY", -1)
    live.world.dirty_rates = [{"status": "measured", "dirty-rate": sampled}]
    over._sampling = precopy.Sampling(over._daemon)
    if first:  # it isn't known before the first look
        live.world.dirty_rates.insert(0, {"status": first})
        over._sampling._due = time.monotonic() + 0.05
    monkeypatch.setattr(precopy, "SAMPLE_POLL", 0)
    asyncio.run(over._copied())
    assert next(looks, None) is None, "it was held up too early"
    return shown


def part(remaining: int, dirtied: int = 0, status: str = "active", passes: int = 2) -> Copied:
    return Copied(status, remaining * MIB, 4096 * MIB, rate=1000.0 * MIB, dirtied=float(dirtied * MIB), passes=passes)


def test_it_is_held_up_when_little_is_left(live: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = ["50 % copied, 1000 MiB/s, 2 s left", "93 % copied, 1000 MiB/s, 0 s left"]
    parts = part(0, status="setup"), part(2048), part(300), part(250)
    assert [one.text for one in copied(live, monkeypatch, *parts)][1:] == shown


@pytest.mark.parametrize(("mib", "writes", "held"), [(512, 15, True), (513, 15, False), (512, 16, False)])
def test_a_small_guest_that_lies_still_is_held_up_from_the_start(
    live: Stage, monkeypatch: pytest.MonkeyPatch, mib: int, writes: int, *, held: bool
) -> None:
    """Nobody could look often enough: all of it is copied while libvirt's daemon is away."""
    told, world = list[bool](), live.world
    begin = precopy.begin

    async def begun(*words: Any, held: bool) -> None:
        told.append(held)
        await begin(*words, held=held)

    monkeypatch.setattr(precopy, "begin", begun)
    world.dirty_rates = [{"status": "measuring"}, {"status": "measured", "dirty-rate": writes}]
    world.memory = {"base-memory": (mib - 200) * MIB, "plugged-memory": 200 * MIB}
    assert live.run() is None
    assert told == [held]
    assert world.said.count("old query-migrate") == (3 if held else 4)


def test_a_guest_that_writes_too_fast_is_copied_on(live: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    copied(live, monkeypatch, part(20, dirtied=900), part(20, dirtied=600), part(20, dirtied=400))


def test_one_that_was_seen_to_write_too_fast_is_copied_twice(live: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU itself knows only after the first pass; by then libvirt's daemon would be away."""
    copied(live, monkeypatch, part(20, passes=1), part(300, dirtied=400), part(20, dirtied=400), sampled=501)
    copied(live, monkeypatch, part(20, passes=1), sampled=500)


@pytest.mark.parametrize(("sampled", "held"), [(500, True), (501, False)])
def test_it_is_held_up_until_that_is_known(
    live: Stage, monkeypatch: pytest.MonkeyPatch, *, sampled: int, held: bool
) -> None:
    """QEMU might come to the end in that second."""
    live.world.said.clear()
    rest = () if held else (part(20, dirtied=400),)
    copied(live, monkeypatch, part(20, passes=1), *rest, sampled=sampled, first="measuring")
    said = [words for words in live.world.said if "parameters" in words or "query-dirty" in words]
    asked = said.index("old query-dirty-rate")
    assert said[asked - 1] == "old migrate-set-parameters", "it was held up before"
    assert said.count("old migrate-set-parameters") == (2 if held else 3)


@pytest.mark.parametrize(
    ("status", "said"),
    [("pre-switchover", "was copied before libvirt's daemon was away"), ("failed", "can't be copied")],
)
def test_what_ends_it(live: Stage, monkeypatch: pytest.MonkeyPatch, status: str, said: str) -> None:
    with pytest.raises(HostError, match=said):
        copied(live, monkeypatch, part(0, status=status))
