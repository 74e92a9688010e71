"""What `auto` decides by: the configuration, the time, and each running domain."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from virtcpr.actions.transfer.move import Move
from virtcpr.model import HistoryEntry
from virtcpr.plan import auto
from virtcpr.plan.auto import Candidate
from virtcpr.plan.undo import went_back
from virtcpr.plan.windows import Moment


def this_moment() -> Moment:
    """Local time, as for windows."""
    now = datetime.now()
    return Moment(now.year, now.month, now.day, now.weekday(), now.hour * 60 + now.minute)


def candidate(move: Move, moves: Mapping[str, HistoryEntry]) -> Candidate:
    """A running domain, as mode transfer sees it; ``moves``: the last one of each, by UUID."""
    emulator = move.facts.emulator
    problem = f"the installed emulator {emulator.path} {emulator.problem}" if emulator.problem else None
    back = went_back(moves.get(move.facts.uuid), emulator.build)
    return Candidate(move.outlook(), auto.wish(move.facts), problem, went_back=back)
