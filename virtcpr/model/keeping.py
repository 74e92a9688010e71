"""The results of ``save`` and ``restore``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from virtcpr.model.words import ExitCode, Finding, Phase


class Keeping(Enum):
    """What ``save`` or ``restore`` did with one domain."""

    SAVED = "saved"  # its state is on disk, and its process has ended
    RESTORED = "restored"
    DISCARDED = "discarded"  # its state was discarded: the domain can be started normally
    BLOCKED = "blocked"  # nothing was touched
    ROLLED_BACK = "rolled-back"  # it could not be saved, and still runs in the old process
    WAITING = "waiting"  # it could not be restored; its state is still on disk
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class KeptDomain:
    """One domain of ``save`` or ``restore``: what it will do, or what it did.

    ``qemu`` is the version that wrote the state, or that runs the guest now.  ``size`` is that state's, in bytes;
    ``in_place``: RAM stays in its own file instead.  ``saved_at`` is ISO 8601.  None if unknown.
    """

    name: str
    uuid: str
    result: Keeping
    qemu: str | None = None
    size: int | None = None
    in_place: bool | None = None
    saved_at: str | None = None
    phases: tuple[Phase, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class SaveReport:
    """What ``save`` did."""

    domains: tuple[KeptDomain, ...]
    exit_code: ExitCode
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RestoreReport:
    """What ``restore`` did.  ``blackout_ms`` is None if the daemon never went down."""

    domains: tuple[KeptDomain, ...]
    exit_code: ExitCode
    blackout_ms: float | None = None
    notes: tuple[str, ...] = ()
