"""What the layers hand each other: frozen, typed, free of libvirt, QMP and the terminal."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum


class ExitCode(IntEnum):
    """How a command ended; part of the interface (virtcpr(8), EXIT STATUS)."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    SOME = 3
    BLOCKED = 4
    ROLLED_BACK = 5
    UNKNOWN = 6


class Mode(Enum):
    """How a guest is moved to another QEMU."""

    TRANSFER = "transfer"


class Severity(Enum):
    BLOCKER = "blocker"
    WARNING = "warning"
    INFO = "info"


class Result(Enum):
    """What a command did with one domain."""

    UPGRADED = "upgraded"
    CURRENT = "current"
    BLOCKED = "blocked"
    ROLLED_BACK = "rolled-back"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """One reason why a domain can't be moved, or can with a warning."""

    code: str
    severity: Severity
    message: str
    remedy: str


@dataclass(frozen=True)
class Phase:
    """One part of a swap and how long it took, in milliseconds."""

    name: str
    ms: float


@dataclass(frozen=True)
class Side:
    """One of the two QEMU processes of a swap.  ``version`` is QEMU's own with the package in brackets."""

    version: str
    pid: int | None = None


@dataclass(frozen=True)
class DomainReport:
    """What became of one domain."""

    name: str
    uuid: str
    result: Result
    mode: Mode | None = None
    source: Side | None = None
    target: Side | None = None
    pause_ms: float | None = None
    phases: tuple[Phase, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Outlook:
    """What ``upgrade`` is about to do with one domain: move it, or leave it for ``verdict``'s reason."""

    name: str
    uuid: str
    source: Side | None
    target: Side | None
    verdict: Result | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def moves(self) -> bool:
        return self.verdict is None


@dataclass(frozen=True)
class UpgradeReport:
    """What ``upgrade`` did.  ``blackout_ms`` is None where the daemon never went down."""

    domains: tuple[DomainReport, ...]
    exit_code: ExitCode
    blackout_ms: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DomainRow:
    """One line of ``list``.  ``ready`` names the mode that the running process is ready for."""

    name: str
    uuid: str
    id: int | None
    state: str
    running: str | None
    installed: str | None
    outdated: bool | None
    ready: Mode | None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class ListReport:
    domains: tuple[DomainRow, ...]
    exit_code: ExitCode = ExitCode.DONE


@dataclass(frozen=True)
class Request:
    """What ``upgrade`` was asked for.  ``domains`` are names, ids or UUIDs; empty with ``every``."""

    domains: tuple[str, ...] = ()
    every: bool = False
    uri: str | None = None
    emulator: str | None = None
    parallel: int | None = None


@dataclass(frozen=True)
class Progress:
    """One event of a running upgrade, for whoever watches it; ``pause_ms`` once it is known."""

    domain: str
    phase: str
    result: Result | None = None
    pause_ms: float | None = None
    text: str = field(default="")
