"""``list``: every domain, the QEMU that it runs in, and the QEMU that is installed."""

from __future__ import annotations

from virtcpr.domain.facts import DomainFacts
from virtcpr.host.libvirt import Connection
from virtcpr.model import DomainRow, ListReport, Mode
from virtcpr.plan.findings import blocks, findings
from virtcpr.swap.probe import Emulators, domain_facts


def list_domains(uri: str | None, domains: tuple[str, ...]) -> ListReport:
    """One row a domain; ``domains`` empty means all.  Reads only.  Raises UsageError and HostError."""
    with Connection(uri) as connection:
        chosen = [connection.lookup(d) for d in domains] if domains else list(connection.domains(running=False))
        emulators = Emulators()
        return ListReport(tuple(_row(domain_facts(domain, emulators, None)) for domain in chosen))


def _row(facts: DomainFacts) -> DomainRow:
    found = findings(facts)
    running = facts.process is not None
    return DomainRow(
        name=facts.name,
        uuid=facts.uuid,
        id=facts.id,
        state=facts.state,
        running=facts.qemu.version if facts.qemu else None,
        installed=facts.emulator.version or None,
        outdated=facts.process.build != facts.emulator.build if facts.process and not facts.emulator.problem else None,
        ready=Mode.TRANSFER if running and not blocks(found) else None,
        findings=found,
    )
