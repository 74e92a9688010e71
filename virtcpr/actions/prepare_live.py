"""``prepare --live``: what was prepared for the next start is made ready now, by a move of the running domains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from virtcpr.actions.rollout.waves import Upgrade
from virtcpr.actions.upgrade import open_upgrade
from virtcpr.model import Blackouts, Outlook, PrepareReport, Readying, Request, Result, Watch
from virtcpr.plan.outcome import exit_code

PREPARED = (Readying.PREPARED, Readying.UNCHANGED)


@contextmanager
def open_readying(request: Request, done: PrepareReport) -> Iterator[MakingReady]:
    """Plan how the running domains of a preparation are made ready, by the mode of the request.  Nothing is touched.

    A domain whose XML couldn't be prepared isn't moved; after a signal none is.  Raises as ``open_upgrade`` does; the
    XML is prepared then.
    """
    if done.interrupted:
        yield MakingReady(replace(done, notes=(*done.notes, "interrupted: no running domain was moved")))
        return
    uuids = tuple(domain.uuid for domain in done.domains if domain.running and domain.result in PREPARED)
    if not uuids:
        yield MakingReady(done)
        return
    with open_upgrade(replace(request, domains=uuids, every=False, force=True, unready=True)) as batch:
        yield MakingReady(done, batch)


@dataclass
class MakingReady:
    """The preparation that was done, and what would be moved now.  ``outlooks`` is what ``run`` would do."""

    done: PrepareReport
    batch: Upgrade | None = None

    @property
    def outlooks(self) -> tuple[Outlook, ...]:
        return () if self.batch is None else self.batch.outlooks

    @property
    def forecast(self) -> Blackouts | None:
        return None if self.batch is None else self.batch.forecast

    def run(self, watch: Watch) -> PrepareReport:
        """Move them, onto the installed QEMU; the report of the preparation, with what became of them."""
        if self.batch is None:
            return self.done
        moves = self.batch.run(watch)
        results: list[Readying | Result] = [domain.result for domain in self.done.domains]
        results += [domain.result for domain in moves.domains]
        return replace(self.done, moves=moves, exit_code=exit_code(results, [moves.exit_code]))
