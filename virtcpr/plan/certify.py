"""What a rehearsal against a candidate says of a domain, and how ``certify`` ends.  Pure."""

from __future__ import annotations

from collections.abc import Collection

from virtcpr.domain.facts import DomainFacts
from virtcpr.model import AVAILABLE, Certified, CertifiedDomain, ExitCode, Mode, Rehearsal, Trial
from virtcpr.plan.decision import Decision

ELSEWHERE = "isn't in the packages"  # the problem of a candidate for a domain to which their installation does nothing
RESULTS = {Trial.GO: Certified.GO, Trial.NO_GO: Certified.NO_GO, Trial.UNSURE: Certified.UNSURE}


def mode_for(decision: Decision, asked: Mode | None) -> Mode | None:
    """The mode to rehearse: the one asked for, or the first that the domain is ready for.

    None if nothing is to be tried: it runs the candidate, or something stands against the mode.
    """
    if decision.current:
        return None
    wanted = AVAILABLE if asked is None else (asked,)
    return next((mode for mode in wanted if not decision.blocked(mode)), None)


def mode_for_defined(facts: DomainFacts, asked: Mode | None) -> Mode:
    """The mode to rehearse with a domain that doesn't run.

    Mode transfer is for a prepared one; mode live shows the same of any other.
    """
    if asked in (Mode.LIVE, Mode.REBOOT):
        return asked
    return Mode.TRANSFER if facts.prepared else Mode.LIVE


def judge(
    decision: Decision,
    asked: Mode | None,
    mode: Mode | None,
    shape: int | None,
    there: Rehearsal,
    back: Rehearsal | None,
) -> CertifiedDomain:
    """The line of one domain; the rehearsals count only if there is a ``mode``."""
    facts = decision.facts
    untried = Certified.UNSURE if facts.emulator.problem == ELSEWHERE else Certified.BLOCKED
    result = RESULTS[there.trial] if mode else Certified.CURRENT if decision.current else untried
    return CertifiedDomain(
        name=facts.name,
        uuid=facts.uuid,
        result=result,
        running=facts.qemu.version if facts.qemu else None,
        candidate=facts.emulator.version or None,
        mode=mode,
        shape=shape,
        there=there if mode else None,
        back=back if mode else None,
        findings=() if result is Certified.CURRENT else decision.reasons(mode or asked or Mode.TRANSFER),
    )


def judge_defined(
    facts: DomainFacts, installed: str, mode: Mode | None, shape: int | None, there: Rehearsal, back: Rehearsal | None
) -> CertifiedDomain:
    """The line of a domain that doesn't run: its twin started in the installed version; ``mode`` None: it has none."""
    return CertifiedDomain(
        name=facts.name,
        uuid=facts.uuid,
        result=RESULTS[there.trial],
        running=installed or None,
        candidate=facts.emulator.version or None,
        mode=mode,
        shape=shape,
        there=there,
        back=back,
        defined=True,
    )


def exit_code(domains: Collection[CertifiedDomain]) -> ExitCode:
    """BLOCKED if a domain couldn't be moved to the candidate, SOME if that isn't known of one, else DONE."""
    results = {domain.result for domain in domains}
    if results & {Certified.NO_GO, Certified.BLOCKED}:
        return ExitCode.BLOCKED
    return ExitCode.SOME if Certified.UNSURE in results else ExitCode.DONE
