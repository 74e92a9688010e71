"""The verdict on an interrupted swap: total, and never two owners whatever was found."""

from __future__ import annotations

from itertools import product

import pytest

from virtcpr.plan.steps import State
from virtcpr.plan.transfer.recovery import New, Old, Verdict, verdict

ALL = list(product(State, Old, New))
BEFORE = (State.PLANNED, State.SPAWNED, State.MIGRATING, State.RECEIVED)
AFTER = (State.COMMITTING, State.RUNNING, State.ADOPTED)


@pytest.mark.parametrize(
    ("state", "old", "new", "expected"),
    [
        (State.SPAWNED, Old.RUNNING, New.SILENT, Verdict.BACK),  # waiting on the CPR channel
        (State.SPAWNED, Old.GONE, New.SILENT, Verdict.LOST),
        (State.MIGRATING, Old.RUNNING, New.GONE, Verdict.BACK),
        (State.MIGRATING, Old.RUNNING, New.INCOMING, Verdict.BACK),
        (State.MIGRATING, Old.POSTMIGRATE, New.GONE, Verdict.BACK),
        (State.MIGRATING, Old.POSTMIGRATE, New.RECEIVED, Verdict.FORWARD),
        (State.MIGRATING, Old.GONE, New.INCOMING, Verdict.LOST),
        (State.RECEIVED, Old.GONE, New.RECEIVED, Verdict.FORWARD),
        (State.RECEIVED, Old.SILENT, New.RECEIVED, Verdict.FORWARD),
        (State.RECEIVED, Old.RUNNING, New.RECEIVED, Verdict.BACK),  # somebody resumed it
        (State.COMMITTING, Old.POSTMIGRATE, New.RECEIVED, Verdict.FORWARD),
        (State.COMMITTING, Old.POSTMIGRATE, New.RUNNING, Verdict.FORWARD),
        (State.COMMITTING, Old.POSTMIGRATE, New.GONE, Verdict.RESET),
        (State.COMMITTING, Old.POSTMIGRATE, New.SILENT, Verdict.FORWARD),
        (State.COMMITTING, Old.SILENT, New.GONE, Verdict.UNKNOWN),
        (State.RUNNING, Old.GONE, New.RUNNING, Verdict.FORWARD),
        (State.RUNNING, Old.GONE, New.GONE, Verdict.LOST),
        (State.DONE, Old.GONE, New.RUNNING, Verdict.NOTHING),
        (State.ROLLED_BACK, Old.RUNNING, New.GONE, Verdict.NOTHING),
    ],
)
def test_verdict(state: State, old: Old, new: New, expected: Verdict) -> None:
    assert verdict(state, old, new) is expected


@pytest.mark.parametrize(("state", "old", "new"), ALL)
def test_every_combination(state: State, old: Old, new: New) -> None:
    decided = verdict(state, old, new)
    if decided is Verdict.FORWARD:
        assert new is not New.GONE or state is State.DONE
        if state in BEFORE:  # the guest is new's only where it has all of it, and old doesn't run it
            assert new in (New.RECEIVED, New.RUNNING)
            assert old is not Old.RUNNING
    if decided in (Verdict.BACK, Verdict.RESET):
        assert old is not Old.GONE or state is State.ROLLED_BACK
        if state in AFTER:  # old never resumes beside a new that may have run
            assert new is New.GONE
    if decided is Verdict.BACK and state in AFTER:  # nor with the state of before
        assert old is Old.RUNNING
    if decided is Verdict.LOST:
        assert old is Old.GONE
        assert new in (New.GONE, New.SILENT, New.INCOMING) or state in (State.PLANNED, State.SPAWNED)


@pytest.mark.parametrize(("state", "old", "new"), ALL)
def test_what_a_keeper_has_is_never_lost(state: State, old: Old, new: New) -> None:
    """And nothing else changes: it is used only where no QEMU has the guest."""
    alone, decided = verdict(state, old, new), verdict(state, old, new, kept=True)
    if alone is not Verdict.LOST:
        assert decided is alone
        return
    assert old is Old.GONE
    assert decided is (Verdict.REVIVE_RESET if state in AFTER else Verdict.REVIVE)


def test_with_a_survivor_that_answers_somebody_gets_the_guest() -> None:
    for state, old, new in ALL:
        if old in (Old.RUNNING, Old.PAUSED, Old.POSTMIGRATE) and new is not New.INCOMING:
            assert verdict(state, old, new) not in (Verdict.LOST, Verdict.UNKNOWN)
