"""Rules about domains: facts in, findings out, no side effects.  The rules are in ``table``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from shlex import quote

from virtcpr.domain.argv import CommandLine
from virtcpr.domain.facts import DomainFacts, ProcessFacts, QemuFacts
from virtcpr.domain.live import LiveDomain
from virtcpr.errors import ParseError
from virtcpr.model import Finding, Mode, Severity

Hit = Mapping[str, str]  # values for a rule's message and remedy, besides {name}


RESTART = "restart the guest instead ('virsh shutdown {name}', 'virsh start {name}')"
REBOOTS = "use mode reboot ('virtcpr upgrade --mode reboot {name}')"


class Needs(Enum):
    """What must be known about a domain for a rule to apply."""

    DOCUMENT = "document"  # its XML, live or persistent
    STOPPED = "stopped"  # its XML, if it doesn't run: QEMU knows more about a running domain
    LIBVIRT = "libvirt"  # libvirt's data about it
    EMULATOR = "emulator"  # the installed emulator
    RUNNING = "running"  # its process, and QEMU's answers


@dataclass(frozen=True)
class Subject:
    """A domain as rules see it: its facts, read once."""

    facts: DomainFacts
    live: LiveDomain
    line: CommandLine | None  # None: it doesn't run, or its command line can't be parsed
    stored: LiveDomain | None  # the persistent XML of a running domain

    @classmethod
    def of(cls, facts: DomainFacts) -> Subject:
        """Raises ParseError if the domain's XML is invalid."""
        line = None
        if facts.process is not None:
            with suppress(ParseError):  # the rule 'argv' says so
                line = facts.process.line
        stored = facts.stored
        return cls(facts, facts.live, line, stored)

    @property
    def process(self) -> ProcessFacts:
        assert self.facts.process is not None, "rules that need a running domain get one"
        return self.facts.process

    @property
    def qemu(self) -> QemuFacts:
        assert self.facts.qemu is not None, "rules that need a running domain get one"
        return self.facts.qemu

    def offers(self, needs: Needs) -> bool:
        """Whether a rule with these needs can be applied to this domain."""
        running = self.facts.process is not None and self.facts.qemu is not None
        known = {
            Needs.DOCUMENT: True,
            Needs.STOPPED: not running and self.facts.problem is None,
            Needs.LIBVIRT: not self.facts.offline,
            Needs.EMULATOR: bool(self.facts.emulator.path) and not self.facts.offline,
            Needs.RUNNING: running,
        }
        return known[needs]


Test = Callable[[Subject], Iterable[Hit]]


@dataclass(frozen=True)
class Rule:
    """One reason: ``test`` yields a hit every time it applies; ``message`` and ``remedy`` are filled from the hit.

    ``source`` is the evidence.
    """

    code: str
    modes: tuple[Mode, ...]
    needs: Needs
    test: Test
    message: str
    remedy: str
    source: str
    severity: Severity = Severity.BLOCKER

    def finding(self, name: str, hit: Hit, *, session: bool = False) -> Finding:
        """``session``: of a user's own libvirt, which mode reboot can't use: its remedies must not name that mode."""
        remedy = self.remedy.replace(REBOOTS, RESTART) if session else self.remedy
        # Remedies can be pasted into a shell.
        return Finding(
            code=self.code,
            severity=self.severity,
            message=self.message.format_map({"name": name, **hit}),
            remedy=remedy.format_map({**hit, "name": quote(name)}),
            modes=self.modes,
            source=self.source,
        )


def apply(rules: Iterable[Rule], facts: DomainFacts) -> tuple[Finding, ...]:
    """All findings of these rules about one domain.  Raises ParseError for broken XML."""
    subject = Subject.of(facts)
    asked = (rule for rule in rules if subject.offers(rule.needs))
    return tuple(rule.finding(facts.name, hit, session=facts.session) for rule in asked for hit in rule.test(subject))


def concerning(findings: Iterable[Finding], mode: Mode) -> tuple[Finding, ...]:
    return tuple(finding for finding in findings if mode in finding.modes)


def blocks(findings: Iterable[Finding], mode: Mode) -> bool:
    """Whether a finding blocks the domain in this mode."""
    return any(finding.severity is Severity.BLOCKER for finding in concerning(findings, mode))
