"""What ``certify`` says: whether running guests could go to a QEMU that isn't installed, and back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from virtcpr.model.words import ExitCode, Finding, Mode


class Trial(Enum):
    """How a rehearsal ended."""

    GO = "go"
    NO_GO = "no-go"
    UNSURE = "unsure"


@dataclass(frozen=True)
class Rehearsal:
    """The result of handing over a guest's twin; ``words`` are QEMU's own, or say why there is no result.

    ``refused_at``: it was the guest itself that new QEMU refused, at this time (ISO 8601).
    """

    trial: Trial
    words: str = ""
    refused_at: str = ""


@dataclass(frozen=True)
class Candidates:
    """Where the build to be certified comes from; exactly one is set.

    ``packages``: files, Debian's; ``archive``: what apt would install.
    """

    emulator: str | None = None
    packages: tuple[str, ...] = ()
    archive: bool = False


class Certified(Enum):
    """What ``certify`` found out about one domain."""

    GO = "go"
    NO_GO = "no-go"
    UNSURE = "unsure"
    BLOCKED = "blocked"  # not by the candidate's refusal: ``findings`` say by what
    CURRENT = "current"  # it runs the candidate already


@dataclass(frozen=True)
class CertifiedDomain:
    """One domain.  ``defined``: it doesn't run; then ``running`` is what it would start in.

    ``shape``: domains with the same number shared a rehearsal; None: there was none.  ``running`` and ``candidate`` are
    versions of QEMU; ``mode`` is the one in which it would be moved.  ``there`` and ``back`` are None if they weren't
    tried.
    """

    name: str
    uuid: str
    result: Certified
    running: str | None
    candidate: str | None
    mode: Mode | None = None
    shape: int | None = None
    there: Rehearsal | None = None
    back: Rehearsal | None = None
    findings: tuple[Finding, ...] = ()
    defined: bool = False


@dataclass(frozen=True)
class CertifyReport:
    """``packages``: the names of the candidate's files, if it was unpacked."""

    domains: tuple[CertifiedDomain, ...]
    exit_code: ExitCode
    packages: tuple[str, ...] = ()
    uri: str | None = None
    notes: tuple[str, ...] = ()
