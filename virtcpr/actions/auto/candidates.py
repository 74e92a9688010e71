"""What `auto` decides by: the configuration, the time, and each running domain."""

from __future__ import annotations

from datetime import datetime

from virtcpr.actions.transfer.move import Move
from virtcpr.host.files import config_files
from virtcpr.plan import auto
from virtcpr.plan.auto import Candidate
from virtcpr.plan.policy import Policy, policy
from virtcpr.plan.windows import Moment


def configured() -> Policy:
    """The policy of the configuration files.  Raises HostError and ParseError."""
    return policy(config_files.documents())


def this_moment() -> Moment:
    """Local time, as for windows."""
    now = datetime.now()
    return Moment(now.year, now.month, now.day, now.weekday(), now.hour * 60 + now.minute)


def candidate(move: Move) -> Candidate:
    """A running domain, as mode transfer sees it."""
    emulator = move.facts.emulator
    problem = f"the installed emulator {emulator.path} {emulator.problem}" if emulator.problem else None
    return Candidate(move.outlook(), auto.wish(move.facts), problem)
