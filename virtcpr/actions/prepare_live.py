"""``prepare --live``: what was prepared for the next start is made ready now, by a move of the running domains."""

from __future__ import annotations

from dataclasses import replace

from virtcpr.actions.upgrade import open_upgrade
from virtcpr.model import Mode, PrepareReport, Readying, Request, Result, Watch
from virtcpr.plan.outcome import exit_code

PREPARED = (Readying.PREPARED, Readying.UNCHANGED)


def make_ready(request: Request, done: PrepareReport, watch: Watch) -> PrepareReport:
    """Move the running domains of a preparation onto the installed QEMU by mode live, unless they are ready already.

    A domain whose XML couldn't be prepared isn't moved; after a signal none is.  Raises as ``open_upgrade`` does; the
    XML is prepared then.
    """
    if done.interrupted:
        return replace(done, notes=(*done.notes, "interrupted: no running domain was moved"))
    uuids = tuple(domain.uuid for domain in done.domains if domain.running and domain.result in PREPARED)
    if not uuids:
        return done
    moving = replace(request, domains=uuids, every=False, mode=Mode.LIVE, force=True, unready=True)
    with open_upgrade(moving) as planned:
        moves = planned.run(watch)
    results: list[Readying | Result] = [domain.result for domain in done.domains]
    results += [domain.result for domain in moves.domains]
    return replace(done, moves=moves, exit_code=exit_code(results))
