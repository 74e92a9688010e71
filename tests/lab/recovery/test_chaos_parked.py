"""Everything is killed at every moment of a move that is parked: in one of them no QEMU has the guest.

`make chaos` runs every case, `make test` some of each kind.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.support import chaos_moments_parked
from tests.lab.support.chaos import FULL, Case, Host
from tests.lab.support.chaos_matrix import PARKED
from tests.lab.support.chaos_moments_parked import ENDED, MOMENTS

SETTLERS = ("guardian", "hook", "recover")


def settlers(moment: str) -> list[str]:
    """The hook settles only where the daemon has to be started."""
    return [by for by in SETTLERS if by != "hook" or chaos_moments_parked.blackout(moment)]


def everything() -> Iterator[Case]:
    for by in SETTLERS:
        yield from (Case(moment, ("virtcpr",), by) for moment in MOMENTS if by in settlers(moment))
    for qemu in ("old", "new"):
        there = [moment for moment in MOMENTS if qemu in chaos_moments_parked.alive(moment)]
        yield from (Case(moment, (qemu,)) for moment in there)
        for turn, moment in enumerate(there):
            can = settlers(moment)
            yield Case(moment, ("virtcpr", qemu), can[turn % len(can)])


SOME = (
    Case("before note", ("virtcpr",), "recover"),
    Case("before park", ("virtcpr",), "hook"),
    Case("journal parked", ("virtcpr",), "guardian"),
    Case(ENDED, ("virtcpr",), "hook"),
    Case("journal received", ("virtcpr",), "recover"),
    Case("before end-old", ("old",)),
    Case(ENDED, ("virtcpr", "new"), "recover"),
    Case("journal received", ("new",)),
    Case("before commit", ("virtcpr", "new"), "guardian"),
)
CASES = list(everything() if FULL else SOME)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_chaos(host: Host, case: Case) -> None:
    host.ready()
    PARKED.add(case.moment, case.column, "FAILED")

    seen = host.strike(case, how=("--mode", "parked"))

    PARKED.both.append(seen["both_ms"])
    outcome = host.outcome(seen)
    PARKED.add(case.moment, case.column, outcome)
    assert outcome in chaos_moments_parked.owners(case.moment, frozenset(case.victims)), seen
