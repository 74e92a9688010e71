"""Everything is killed at every moment of a swap: the guest lives, has one owner, and libvirt knows which.

`make chaos` runs every case, `make test` some of each kind.  The matrix is printed at the end.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.support import chaos_moments
from tests.lab.support.chaos import FULL, Case, Host
from tests.lab.support.chaos_matrix import SEEN
from tests.lab.support.chaos_moments import MOMENTS

SETTLERS = ("guardian", "hook", "recover")


def settlers(moment: str) -> list[str]:
    """Who can settle what virtcpr left at a moment: the hook only where the daemon has to be started."""
    can = {"guardian": True, "hook": chaos_moments.blackout(moment), "recover": True}
    return [by for by in SETTLERS if can[by]]


def everything() -> Iterator[Case]:
    for by in SETTLERS:
        yield from (Case(moment, ("virtcpr",), by) for moment in MOMENTS if by in settlers(moment))
    for qemu in ("old", "new"):
        there = [moment for moment in MOMENTS if qemu in chaos_moments.alive(moment)]
        yield from (Case(moment, (qemu,)) for moment in there)
        for turn, moment in enumerate(there):
            can = settlers(moment)
            yield Case(moment, ("virtcpr", qemu), can[turn % len(can)])
    up = [moment for moment in MOMENTS if not chaos_moments.blackout(moment)]
    yield from (Case(moment, ("libvirtd",)) for moment in up)
    # systemd starts libvirtd again by itself, and that runs the hook, or waits for the guardian.
    yield from (Case(moment, ("virtcpr", "libvirtd"), "guardian") for moment in up)
    yield from (Case(moment, ("start",)) for moment in MOMENTS if chaos_moments.blackout(moment))


SOME = (
    Case("after spawn", ("virtcpr",), "guardian"),
    Case("before migrate", ("virtcpr",), "recover"),
    Case("journal migrating", ("virtcpr",), "guardian"),
    Case("before stop", ("virtcpr",), "guardian"),
    Case("before incoming", ("virtcpr",), "recover"),
    Case("before received", ("virtcpr",), "hook"),
    Case("journal received", ("virtcpr",), "recover"),
    Case("journal running", ("virtcpr",), "hook"),
    Case("before record", ("virtcpr",), "guardian"),
    Case("journal adopted", ("virtcpr",), "guardian"),
    Case(chaos_moments.ROLLED_BACK, ("virtcpr",), "hook"),
    Case("before received", ("old",)),
    Case("journal committing", ("old",)),
    Case("after spawn", ("new",)),
    Case("journal received", ("new",)),
    Case("journal committing", ("new",)),
    Case("before commit", ("virtcpr", "old"), "guardian"),
    Case("journal received", ("virtcpr", "new"), "hook"),
    Case("before end-old", ("virtcpr", "new"), "recover"),
    Case("after spawn", ("libvirtd",)),
    Case("before replay", ("virtcpr", "libvirtd"), "guardian"),
    Case("after stop", ("start",)),
)


CASES = list(everything() if FULL else SOME)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_chaos(host: Host, case: Case) -> None:
    host.ready()
    SEEN.add(case.moment, case.column, "FAILED")

    seen = host.strike(case)

    SEEN.both.append(seen["both_ms"])
    outcome = host.outcome(seen)
    SEEN.add(case.moment, case.column, outcome)
    assert outcome in chaos_moments.owners(case.moment, frozenset(case.victims)), seen
    if case.victims == ("virtcpr",) and case.then == "guardian" and chaos_moments.blackout(case.moment):
        SEEN.answers.append(seen["answer_s"])
    if "virtcpr" in case.victims:
        assert seen["code"] == -9, seen
    else:
        assert seen["report"], seen
    # The lock keeps it out, until all is ready for it.
    if "start" in case.victims and case.moment not in ("journal adopted", "before start"):
        assert seen["started"] == (case.moment == "after stop"), seen
