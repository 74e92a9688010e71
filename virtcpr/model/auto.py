"""The results of ``auto`` and ``history``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from virtcpr.model.words import Blackout, ExitCode, Finding, Mode, Phase, Result, Side


class Action(Enum):
    """What ``auto`` did with one domain; a value that Result has, too, means the same."""

    UPGRADED = "upgraded"
    CURRENT = "current"
    TOLD = "told"  # reported only: it runs an outdated QEMU, and isn't to be moved
    WAITING = "waiting"  # it will be moved later: outside the windows, or something else is busy now
    LEFT = "left"  # it opted out, or another domain failed before its turn
    BLOCKED = "blocked"
    ROLLED_BACK = "rolled-back"
    FAILED = "failed"
    UNKNOWN = "unknown"
    MOVE = "move"  # with --dry-run: it would be moved

    @property
    def result(self) -> Result | None:
        """The same result of ``upgrade``, if there is one."""
        return next((result for result in Result if result.value == self.value), None)


@dataclass(frozen=True)
class AutoDomain:
    """The result of one domain; ``reason`` says why, if that isn't obvious."""

    name: str
    uuid: str
    action: Action
    reason: str = ""
    mode: Mode | None = None
    source: Side | None = None
    target: Side | None = None
    pause_ms: float | None = None
    phases: tuple[Phase, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class AutoReport:
    """What ``auto`` did, or with ``dry_run`` would do.  ``blackout_ms`` is the total of all its moves."""

    domains: tuple[AutoDomain, ...]
    exit_code: ExitCode
    blackout_ms: float | None = None
    notes: tuple[str, ...] = ()
    dry_run: bool = False

    @property
    def reported(self) -> str:
        """How many domains were only reported, and what moves them; empty for none."""
        actions = [domain.action for domain in self.domains]
        number = actions.count(Action.TOLD)
        if not number:
            return ""
        # --all would also move domains that opted out, or that wait for a window.
        choice = "DOMAIN..." if {Action.LEFT, Action.WAITING} & set(actions) else "--all"
        domains = "1 outdated domain reported, not" if number == 1 else f"{number} outdated domains reported, none"
        return f"{domains} moved: run `virtcpr upgrade {choice}`"


@dataclass(frozen=True)
class HistoryEntry:
    """One line of the history.

    ``time`` is ISO 8601, ``source`` and ``target`` are versions of QEMU, and the builds which binaries; ``blackout`` is
    the one in which mode transfer moved the domain.  ``batch``: the number of what one command moved, None for moves of
    version 0.1.0; ``undoes``: the batch that this took back; ``why``: the sign of trouble for which that was done;
    ``findings``: why it wasn't moved, each without its modes and its source.
    """

    time: str
    name: str
    uuid: str
    result: Result
    mode: Mode | None = None
    source: str | None = None
    target: str | None = None
    pause_ms: float | None = None
    phases: tuple[Phase, ...] = ()
    blackout: Blackout | None = None
    batch: int | None = None
    undoes: int | None = None
    why: str = ""
    source_build: str | None = None
    target_build: str | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class HistoryReport:
    """The moved domains, the newest entry last; ``uri``: whose domains, None if that is obvious."""

    entries: tuple[HistoryEntry, ...]
    exit_code: ExitCode = ExitCode.DONE
    uri: str | None = None
