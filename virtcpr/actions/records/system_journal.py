"""Records with fields in the system's journal: one per domain that was moved or reported."""

from __future__ import annotations

from virtcpr.host.report import journald
from virtcpr.model import Action, AutoDomain, DomainReport, Severity

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


def send_domain(domain: AutoDomain | DomainReport) -> None:
    """Send what became of a domain.  Without a journal this does nothing."""
    action = domain.action if isinstance(domain, AutoDomain) else Action(domain.result.value)
    reason = _reason(domain)
    message = f"{domain.name}: {action.value}{_move(domain, action)}" + (f": {reason}" if reason else "")
    values = {
        "VIRTCPR_DOMAIN": domain.name,
        "VIRTCPR_UUID": domain.uuid,
        "VIRTCPR_RESULT": action.value,
        "VIRTCPR_MODE": domain.mode.value if domain.mode else "",
        "VIRTCPR_FROM": domain.source.version if domain.source else "",
        "VIRTCPR_TO": domain.target.version if domain.target else "",
        "VIRTCPR_PAUSE_MS": "" if domain.pause_ms is None else f"{domain.pause_ms:.3f}",
        "VIRTCPR_REASON": reason,
    }
    _send(DOMAIN_ID, message, PRIORITIES[action], {name: value for name, value in values.items() if value})


def send_summary(text: str, actions: list[Action], exit_code: int) -> None:
    """Send the summary of a run of `auto`, as urgent as the worst of its actions."""
    priority = min([6, *(PRIORITIES[action] for action in actions)])
    _send(SUMMARY_ID, f"auto: {text}", priority, {"VIRTCPR_EXIT_CODE": str(exit_code)})


def _send(identity: str, message: str, priority: int, values: dict[str, str]) -> None:
    fields = {
        "MESSAGE": message,
        "MESSAGE_ID": identity,
        "PRIORITY": str(priority),
        "SYSLOG_IDENTIFIER": "virtcpr",
    }
    journald.send(fields | values)


def _reason(domain: AutoDomain | DomainReport) -> str:
    """The reason, and all blockers."""
    reason = domain.reason if isinstance(domain, AutoDomain) else ""
    blockers = [finding.message for finding in domain.findings if finding.severity is Severity.BLOCKER]
    return "; ".join(text for text in (reason, *blockers) if text)


def _move(domain: AutoDomain | DomainReport, action: Action) -> str:
    if action is not Action.UPGRADED or domain.source is None or domain.target is None:
        return ""
    pause = "" if domain.pause_ms is None else f", paused for {domain.pause_ms:.0f} ms"
    return f", QEMU {domain.source.version} to {domain.target.version}{pause}"
