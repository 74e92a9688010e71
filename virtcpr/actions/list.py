"""``list``: every domain, its running QEMU version and the installed one."""

from __future__ import annotations

from contextlib import suppress

from virtcpr.actions.inspect.probe import Probe
from virtcpr.domain.facts import DomainFacts
from virtcpr.errors import ParseError
from virtcpr.host.libvirt.connection import Connection
from virtcpr.model import DomainRow, ListReport, Mode
from virtcpr.plan.decision import Decision, decide


def list_domains(uri: str | None, domains: tuple[str, ...]) -> ListReport:
    """One row per domain; ``domains`` empty means all.  Reads only.  Raises UsageError and HostError."""
    with Connection(uri) as connection:
        chosen = [connection.lookup(name) for name in domains] if domains else list(connection.domains(running=False))
        probe = Probe()
        return ListReport(tuple(row(probe.facts(domain)) for domain in chosen), uri=connection.uri)


def row(facts: DomainFacts) -> DomainRow:
    """What these facts mean for an administrator."""
    decision = decide(facts)
    return DomainRow(
        name=facts.name,
        uuid=facts.uuid,
        id=facts.id,
        state=facts.state,
        running=facts.qemu.version if facts.qemu else None,
        installed=facts.emulator.version or None,
        outdated=None if facts.process is None or facts.emulator.problem else not decision.current,
        prepared=_prepared(facts),
        ready=Mode.TRANSFER if decision.plan else _otherwise(decision),
        findings=decision.reasons(Mode.TRANSFER),
    )


def _prepared(facts: DomainFacts) -> bool | None:
    with suppress(ParseError):  # a finding says so
        return facts.prepared
    return None


def _otherwise(decision: Decision) -> Mode | None:
    if decision.facts.process is None:
        return None
    return next((mode for mode in (Mode.LIVE, Mode.REBOOT) if not decision.blocked(mode)), None)
