"""``list``: every domain, the QEMU that it runs in, and the QEMU that is installed."""

from __future__ import annotations

from virtcpr.domain.facts import DomainFacts
from virtcpr.host.libvirt import Connection
from virtcpr.model import DomainRow, ListReport, Mode
from virtcpr.plan.decision import decide
from virtcpr.swap.probe import Probe


def list_domains(uri: str | None, domains: tuple[str, ...]) -> ListReport:
    """One row a domain; ``domains`` empty means all.  Reads only.  Raises UsageError and HostError."""
    with Connection(uri) as connection:
        chosen = [connection.lookup(d) for d in domains] if domains else list(connection.domains(running=False))
        probe = Probe()
        return ListReport(tuple(_row(probe.facts(domain)) for domain in chosen))


def _row(facts: DomainFacts) -> DomainRow:
    decision = decide(facts)
    return DomainRow(
        name=facts.name,
        uuid=facts.uuid,
        id=facts.id,
        state=facts.state,
        running=facts.qemu.version if facts.qemu else None,
        installed=facts.emulator.version or None,
        outdated=None if facts.process is None or facts.emulator.problem else not decision.current,
        ready=Mode.TRANSFER if decision.plan else None,
        findings=decision.reasons(Mode.TRANSFER),
    )
