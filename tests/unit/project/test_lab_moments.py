"""What the chaos tests expect is what the table of recovery says of the processes as they are at each moment."""

from __future__ import annotations

import pytest

from tests.lab.support import chaos_moments, chaos_moments_parked, chaos_moments_reboot
from tests.lab.support.chaos_moments import MOMENTS, since
from virtcpr.plan.steps import State
from virtcpr.plan.transfer.recovery import New, Old, Verdict, verdict

OUTCOMES = {
    Verdict.BACK: chaos_moments.OLD,
    Verdict.FORWARD: chaos_moments.NEW,
    Verdict.RESET: chaos_moments.RESET,
    Verdict.LOST: chaos_moments.LOST,
}


def state(moment: str) -> State:
    """What the journal says then: the last state that was announced."""
    if moment == chaos_moments.ROLLED_BACK:
        return State.ROLLED_BACK
    so_far = MOMENTS[: MOMENTS.index(moment) + 1]
    return State(next(m for m in reversed(so_far) if m.startswith("journal ")).removeprefix("journal "))


def processes(moment: str, victims: frozenset[str]) -> set[tuple[Old, New]]:
    """How both are found."""
    if since(moment, "before commit"):
        new = New.RUNNING if since(moment, "before place") else New.RECEIVED
        found = {(Old.POSTMIGRATE, new)}
    elif since(moment, "before received"):  # the migration is under way, or has just ended
        found = {(Old.RUNNING, New.INCOMING), (Old.POSTMIGRATE, New.INCOMING), (Old.POSTMIGRATE, New.RECEIVED)}
    else:
        found = {(Old.RUNNING, New.INCOMING if since(moment, "before replay") else New.SILENT)}
    there = chaos_moments.alive(moment) - victims
    return {(old if "old" in there else Old.GONE, new if "new" in there else New.GONE) for old, new in found}


REBOOTS = [(command, moment) for command, found in chaos_moments_reboot.MOMENTS.items() for moment in found]


@pytest.mark.parametrize(("command", "moment"), REBOOTS)
def test_mode_reboot_loses_nothing_where_no_qemu_is_killed(command: str, moment: chaos_moments_reboot.Moment) -> None:
    end = chaos_moments_reboot.end(command, moment, ("virtcpr", "libvirtd"))
    assert end in (chaos_moments.OLD, chaos_moments.NEW, chaos_moments_reboot.WAITS)
    if qemu := chaos_moments_reboot.alive(moment):
        assert chaos_moments_reboot.end(command, moment, ("virtcpr", qemu)) != "unknown"


@pytest.mark.parametrize("killed", [(), ("old",), ("new",)])
@pytest.mark.parametrize("moment", MOMENTS[:-2])  # where the journal says that it is over, there is nothing to tell
def test_it_expects_what_the_table_says(moment: str, killed: tuple[str, ...]) -> None:
    victims = frozenset(("virtcpr", *killed))
    if not set(killed) <= chaos_moments.alive(moment):
        return
    told = {OUTCOMES[verdict(state(moment), old, new)] for old, new in processes(moment, victims)}
    assert told == chaos_moments.owners(moment, victims)


KEPT = {
    **OUTCOMES,
    Verdict.REVIVE: chaos_moments.AGAIN,
    Verdict.REVIVE_RESET: chaos_moments.RESET,  # or lost, if QEMU notices that it doesn't fit the RAM
}


@pytest.mark.parametrize("killed", [(), ("old",), ("new",)])
@pytest.mark.parametrize("moment", [m for m in chaos_moments_parked.MOMENTS if m.startswith("journal ")][:-1])
def test_parked_it_expects_what_the_table_says(moment: str, killed: tuple[str, ...]) -> None:
    if not set(killed) <= chaos_moments_parked.alive(moment):
        return
    since = chaos_moments_parked.since
    there = chaos_moments_parked.alive(moment) - set(killed)
    old = Old.POSTMIGRATE if since(moment, "journal parked") else Old.RUNNING
    new = (
        New.RUNNING
        if since(moment, "journal running")
        else New.RECEIVED
        if since(moment, "journal received")
        else New.SILENT
    )
    told = verdict(
        State(moment.removeprefix("journal ")),
        old if "old" in there else Old.GONE,
        new if "new" in there else New.GONE,
        kept=since(moment, "journal parked"),
    )
    assert KEPT[told] in chaos_moments_parked.owners(moment, frozenset(("virtcpr", *killed)))
