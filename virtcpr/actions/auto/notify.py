"""Report the results of `auto`: to the journal, Prometheus, notify programs and by mail."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from virtcpr.errors import HostError
from virtcpr.host.files.atomic import write_public
from virtcpr.host.report import journald, mail, notify_d
from virtcpr.model import Action, AutoDomain, AutoReport, Severity
from virtcpr.plan import auto, metrics
from virtcpr.plan.policy import Policy

log = logging.getLogger(__name__)

# virtcpr's message ids, for `journalctl MESSAGE_ID=…` (sd-id128(3)).
DOMAIN_ID = "5e1d3b7a0c8f4c0e9d2a7f64b1c3e850"
SUMMARY_ID = "c4a96f20d7314b6e8b05e2d98f7a6413"
# syslog(3): 2 critical, 3 error, 4 warning, 5 notice, 6 info, 7 debug.
PRIORITIES = {
    Action.UPGRADED: 5,
    Action.CURRENT: 7,
    Action.TOLD: 5,
    Action.WAITING: 5,
    Action.LEFT: 6,
    Action.BLOCKED: 4,
    Action.ROLLED_BACK: 4,
    Action.FAILED: 3,
    Action.UNKNOWN: 2,
}


def tell(policy: Policy, report: AutoReport, document: str, table: str) -> None:
    """Report everywhere; ``document`` is the report as JSON.  Failures are logged, never raised.

    Programs and mail are used only if there is something to report.
    """
    for domain in report.domains:
        journald.send(_record(domain))
    subject = auto.subject(report)
    priority = min((PRIORITIES[domain.action] for domain in report.domains), default=6)
    code = {"VIRTCPR_EXIT_CODE": str(int(report.exit_code))}
    journald.send(_fields(SUMMARY_ID, f"auto: {subject}", min(priority, 6)) | code)
    if policy.prometheus:
        _tried(lambda: write_public(Path(policy.prometheus), metrics.exposition(report, time.time())))
    if not auto.tells(report):
        return
    notify_d.tell(document, {"VIRTCPR_SUBJECT": subject, **code})
    if policy.mail:
        _tried(lambda: mail.send(policy.mail, f"[{mail.host_name()}] virtcpr: {subject}", table))


def _record(domain: AutoDomain) -> dict[str, str]:
    reason = _reason(domain)
    message = f"{domain.name}: {domain.action.value}{_move(domain)}" + (f": {reason}" if reason else "")
    fields = _fields(DOMAIN_ID, message, PRIORITIES[domain.action])
    values = {
        "VIRTCPR_DOMAIN": domain.name,
        "VIRTCPR_UUID": domain.uuid,
        "VIRTCPR_RESULT": domain.action.value,
        "VIRTCPR_MODE": domain.mode.value if domain.mode else "",
        "VIRTCPR_FROM": domain.source.version if domain.source else "",
        "VIRTCPR_TO": domain.target.version if domain.target else "",
        "VIRTCPR_PAUSE_MS": "" if domain.pause_ms is None else f"{domain.pause_ms:.3f}",
        "VIRTCPR_REASON": reason,
    }
    return fields | {name: value for name, value in values.items() if value}


def _fields(identity: str, message: str, priority: int) -> dict[str, str]:
    return {
        "MESSAGE": message,
        "MESSAGE_ID": identity,
        "PRIORITY": str(priority),
        "SYSLOG_IDENTIFIER": "virtcpr",
    }


def _reason(domain: AutoDomain) -> str:
    """The reason, and all blockers."""
    blockers = [finding.message for finding in domain.findings if finding.severity is Severity.BLOCKER]
    return "; ".join(text for text in (domain.reason, *blockers) if text)


def _move(domain: AutoDomain) -> str:
    if domain.action is not Action.UPGRADED or domain.source is None or domain.target is None:
        return ""
    pause = "" if domain.pause_ms is None else f", paused for {domain.pause_ms:.0f} ms"
    return f", QEMU {domain.source.version} to {domain.target.version}{pause}"


def _tried(action: Callable[[], object]) -> None:
    try:
        action()
    except HostError as error:
        log.warning("%s", error.message)
