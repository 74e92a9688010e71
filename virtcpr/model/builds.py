"""The results of ``builds``."""

from __future__ import annotations

from dataclasses import dataclass

from virtcpr.model.words import ExitCode


@dataclass(frozen=True)
class KeptBuild:
    """A build of QEMU that is kept for `undo`, in bytes; ``kept_at`` is ISO 8601; ``runs``: a process runs it."""

    build: str
    version: str
    kept_at: str
    program: str
    size: int
    runs: bool


@dataclass(frozen=True)
class BuildsReport:
    """The oldest first."""

    builds: tuple[KeptBuild, ...]
    exit_code: ExitCode = ExitCode.DONE
    notes: tuple[str, ...] = ()
