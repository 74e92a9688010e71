"""``check``: examine domains, report the findings and the modes that are possible.  Reads only."""

from __future__ import annotations

from dataclasses import replace

from virtcpr.actions.inspect.probe import Probe
from virtcpr.actions.inspect.selection import chosen
from virtcpr.domain.edit.document import parse_domain
from virtcpr.domain.facts import DomainFacts
from virtcpr.host.files.atomic import read_document
from virtcpr.host.libvirt.connection import Connection
from virtcpr.model import CheckedDomain, CheckReport, ExitCode, Mode, Request
from virtcpr.plan.decision import Decision, decide


def check(request: Request) -> CheckReport:
    """All findings for each domain, and the modes that they don't block.  Raises UsageError and HostError."""
    with Connection(request.uri) as connection:
        probe = Probe(request.emulator)
        decisions = [decide(probe.facts(domain)) for domain in chosen(connection, request, running=False)]
        uri = connection.uri
    return replace(_report(decisions, request.mode, every=request.every), uri=uri)


def check_document(source: str, mode: Mode | None) -> CheckReport:
    """Check a domain's XML alone; ``source`` is a path, or ``-``.  Raises HostError and ParseError."""
    text = read_document(source)
    parse_domain(text)
    return replace(_report([decide(DomainFacts.of_document(text))], mode), offline=True)


def _report(decisions: list[Decision], mode: Mode | None, *, every: bool = False) -> CheckReport:
    """No ``mode`` is the one that `upgrade` would use.  With ``every``, domains that don't run block nothing."""
    domains = tuple(_checked(decision) for decision in decisions)
    asked = mode or Mode.TRANSFER
    counted = [decision for decision in decisions if not (every and decision.facts.id is None)]
    blocked = any(decision.blocked(asked) for decision in counted)
    return CheckReport(domains, ExitCode.BLOCKED if blocked else ExitCode.DONE, mode)


def _checked(decision: Decision) -> CheckedDomain:
    facts = decision.facts
    return CheckedDomain(
        name=facts.name,
        uuid=facts.uuid,
        state=facts.state,
        running=facts.qemu.version if facts.qemu else None,
        installed=facts.emulator.version or None,
        ready=tuple(mode for mode in Mode if not decision.blocked(mode)),
        findings=decision.findings,
    )
