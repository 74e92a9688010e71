"""``plan``: what ``upgrade`` would do now."""

from __future__ import annotations

from collections import Counter

from virtcpr.actions.records import history
from virtcpr.actions.records.unsettled import refuse_unsettled
from virtcpr.actions.upgrade import outlooks
from virtcpr.host.libvirt.connection import Connection
from virtcpr.model import AVAILABLE, Mode, PlanReport, Request
from virtcpr.plan.batch.forecast import blackouts, one_by_one, with_forecast


def plan(request: Request) -> PlanReport:
    """What ``upgrade`` would do now: the same plan objects that it would execute.

    Raises UsageError and HostError; Unsettled if an earlier swap was interrupted, as ``upgrade`` does.
    """
    refuse_unsettled()
    with Connection(request.uri) as connection:
        planned = outlooks(connection, request)
        uri = connection.uri
    pauses = {mode: history.pauses(mode) for mode in AVAILABLE}
    asked = request.mode or Mode.TRANSFER
    moving = Counter(outlook.mode or asked for outlook in planned if outlook.moves)
    limit = None if request.max_blackout_s is None else request.max_blackout_s * 1000
    away = blackouts(history.blackouts(), moving[Mode.TRANSFER], limit)
    if moving[Mode.LIVE]:  # all of them: nobody can ask for both modes
        away = one_by_one(history.blackouts(Mode.LIVE), moving[Mode.LIVE])
    return PlanReport(
        tuple(with_forecast(outlook, pauses[outlook.mode or asked]) for outlook in planned),
        uri=uri,
        blackouts=away,
    )
