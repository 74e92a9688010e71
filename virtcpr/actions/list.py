"""``list``: every domain, its running QEMU version and the installed one."""

from __future__ import annotations

from contextlib import suppress

from virtcpr.actions.inspect.probe import Probe
from virtcpr.actions.records import saves
from virtcpr.domain.facts import DomainFacts
from virtcpr.errors import HostError
from virtcpr.host.libvirt.connection import Connection
from virtcpr.model import DomainRow, ListReport, Mode
from virtcpr.plan.decision import Decision, decide


def list_domains(uri: str | None, domains: tuple[str, ...]) -> ListReport:
    """One row per domain; ``domains`` empty means all.  Reads only.  Raises UsageError and HostError."""
    with Connection(uri) as connection:
        chosen = [connection.lookup(name) for name in domains] if domains else list(connection.domains(running=False))
        probe = Probe()
        saved = frozenset[str]()
        with suppress(HostError):  # only root can see them
            saved = frozenset(saves.waiting())
        return ListReport(tuple(_row(probe.facts(domain), saved) for domain in chosen))


def _row(facts: DomainFacts, saved: frozenset[str]) -> DomainRow:
    decision = decide(facts)
    return DomainRow(
        name=facts.name,
        uuid=facts.uuid,
        id=facts.id,
        state="saved" if facts.uuid in saved and facts.process is None else facts.state,
        running=facts.qemu.version if facts.qemu else None,
        installed=facts.emulator.version or None,
        outdated=None if facts.process is None or facts.emulator.problem else not decision.current,
        ready=Mode.TRANSFER if decision.plan else _otherwise(decision),
        findings=decision.reasons(Mode.TRANSFER),
    )


def _otherwise(decision: Decision) -> Mode | None:
    running = decision.facts.process is not None
    return Mode.REBOOT if running and not decision.blocked(Mode.REBOOT) else None
