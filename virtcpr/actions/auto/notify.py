"""Report the results of `auto`: to the journal, Prometheus, notify programs, by mail and by HTTP."""

from __future__ import annotations

import logging
from collections.abc import Callable

from virtcpr.actions.auto import prometheus
from virtcpr.actions.records import system_journal, told
from virtcpr.errors import HostError
from virtcpr.host.report import mail, notify_d, web
from virtcpr.model import Action, AutoReport
from virtcpr.plan import auto
from virtcpr.plan.policy import Policy

log = logging.getLogger(__name__)

TRIED = (Action.UPGRADED, Action.ROLLED_BACK, Action.FAILED, Action.UNKNOWN)


def tell(policy: Policy, report: AutoReport, document: str, table: str, *, changes: bool = False) -> None:
    """Report everywhere; ``document`` is the report as JSON.  Failures are logged, never raised.

    Programs, mail and the web hook are used only if there is something to report, with ``changes`` only if it wasn't
    reported last.
    """
    for domain in report.domains:
        if domain.action not in TRIED:  # the move itself has sent those (records/moved.py)
            system_journal.send_domain(domain)
    subject = auto.subject(report)
    system_journal.send_summary(subject, [domain.action for domain in report.domains], report.exit_code)
    code = {"VIRTCPR_EXIT_CODE": str(int(report.exit_code))}
    if policy.prometheus:
        _tried(lambda: prometheus.write(policy, report))
    if policy.ping:
        _tried(lambda: web.ping(policy.ping, int(report.exit_code)))
    news = told.is_news(auto.essence(report))
    if not auto.tells(report) or (changes and not news):
        return
    notify_d.tell(document, {"VIRTCPR_SUBJECT": subject, **code})
    if policy.mail:
        _tried(lambda: mail.send(policy.mail, f"[{mail.host_name()}] virtcpr: {subject}", table))
    if policy.webhook:
        _tried(lambda: web.post(policy.webhook, document))


def _tried(action: Callable[[], object]) -> None:
    try:
        action()
    except HostError as error:
        log.warning("%s", error.message)
