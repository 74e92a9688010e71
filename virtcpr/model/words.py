"""The types that all reports use."""

from __future__ import annotations

from dataclasses import dataclass
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
    PENDING = 10  # of `plan --detailed-exitcode` only


class Mode(Enum):
    """How a guest is moved to another QEMU (docs/how-it-works.md, "The modes")."""

    TRANSFER = "transfer"
    LIVE = "live"
    REBOOT = "reboot"
    EXEC = "exec"


AVAILABLE = (Mode.TRANSFER, Mode.LIVE, Mode.REBOOT)  # implemented in this version; the others are only checked


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
    """One reason why a domain can't be moved in some ``modes``, or can with a warning.

    ``source`` is the evidence: QEMU's or libvirt's source or documentation.
    """

    code: str
    severity: Severity
    message: str
    remedy: str
    modes: tuple[Mode, ...] = tuple(Mode)
    source: str = ""


@dataclass(frozen=True)
class Phase:
    """One part of a swap and how long it took, in milliseconds."""

    name: str
    ms: float


@dataclass(frozen=True)
class Side:
    """One of the two QEMU processes of a swap.

    ``version`` is QEMU's own with the package in brackets; ``build``: which binary of that version, None if unknown.
    """

    version: str
    pid: int | None = None
    build: str | None = None


@dataclass(frozen=True)
class Blackout:
    """One absence of libvirt's daemon, in milliseconds, and how many guests were moved in it."""

    guests: int
    ms: float


@dataclass(frozen=True)
class Blackouts:
    """Several, one after the other, or only one: how many, and the longest in milliseconds."""

    times: int
    longest_ms: float
