"""The data that the layers exchange: frozen, typed, free of libvirt, QMP and the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from virtcpr.model.auto import Action as Action
from virtcpr.model.auto import AutoDomain as AutoDomain
from virtcpr.model.auto import AutoReport as AutoReport
from virtcpr.model.auto import HistoryEntry as HistoryEntry
from virtcpr.model.auto import HistoryReport as HistoryReport
from virtcpr.model.builds import BuildsReport as BuildsReport
from virtcpr.model.builds import KeptBuild as KeptBuild
from virtcpr.model.certify import Candidates as Candidates
from virtcpr.model.certify import Certified as Certified
from virtcpr.model.certify import CertifiedDomain as CertifiedDomain
from virtcpr.model.certify import CertifyReport as CertifyReport
from virtcpr.model.certify import Rehearsal as Rehearsal
from virtcpr.model.certify import Trial as Trial
from virtcpr.model.host import BuildInUse as BuildInUse
from virtcpr.model.host import DomainRow as DomainRow
from virtcpr.model.host import HostReport as HostReport
from virtcpr.model.host import ListReport as ListReport
from virtcpr.model.keeping import Keeping as Keeping
from virtcpr.model.keeping import KeptDomain as KeptDomain
from virtcpr.model.keeping import RestoreReport as RestoreReport
from virtcpr.model.keeping import SaveReport as SaveReport
from virtcpr.model.rollout import Probation as Probation
from virtcpr.model.rollout import Rollout as Rollout
from virtcpr.model.words import AVAILABLE as AVAILABLE
from virtcpr.model.words import Blackout as Blackout
from virtcpr.model.words import Blackouts as Blackouts
from virtcpr.model.words import ExitCode as ExitCode
from virtcpr.model.words import Finding as Finding
from virtcpr.model.words import Mode as Mode
from virtcpr.model.words import Phase as Phase
from virtcpr.model.words import Result as Result
from virtcpr.model.words import Severity as Severity
from virtcpr.model.words import Side as Side


@dataclass(frozen=True)
class DomainReport:
    """The result of one domain.  ``blackout`` is the one in which mode transfer moved it."""

    name: str
    uuid: str
    result: Result
    mode: Mode | None = None
    source: Side | None = None
    target: Side | None = None
    pause_ms: float | None = None
    phases: tuple[Phase, ...] = ()
    findings: tuple[Finding, ...] = ()
    blackout: Blackout | None = None

    @property
    def blocked(self) -> bool:
        return self.result is Result.BLOCKED


@dataclass(frozen=True)
class PlannedStep:
    """One step of a swap, in words; ``side`` is before, at or after the point of no return."""

    name: str
    describe: str
    side: str
    undo: str | None


@dataclass(frozen=True)
class Outlook:
    """What ``upgrade`` is about to do with one domain: move it, or leave it for ``verdict``'s reason.

    ``carried`` and ``replayed`` are texts; ``forecast_ms`` is the expected pause in milliseconds, None if the domain
    was never moved before.
    """

    name: str
    uuid: str
    source: Side | None
    target: Side | None
    verdict: Result | None = None
    findings: tuple[Finding, ...] = ()
    mode: Mode | None = None
    emulator: str | None = None
    steps: tuple[PlannedStep, ...] = ()
    carried: tuple[str, ...] = ()
    replayed: tuple[str, ...] = ()
    forecast_ms: float | None = None
    rehearsal: Rehearsal | None = None

    @property
    def moves(self) -> bool:
        return self.verdict is None

    @property
    def blocked(self) -> bool:
        return self.verdict is Result.BLOCKED


@dataclass(frozen=True)
class PlanReport:
    """What ``upgrade`` or ``undo`` would do.  ``blackouts``: what is forecast for mode transfer, None if there is no
    forecast."""

    domains: tuple[Outlook, ...]
    exit_code: ExitCode = ExitCode.DONE
    uri: str | None = None
    blackouts: Blackouts | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class UpgradeReport:
    """What ``upgrade`` did.  ``blackout_ms`` is the total, None if the daemon never went down; ``blackouts`` are
    those of mode transfer.  ``undo``: it is that of `undo`."""

    domains: tuple[DomainReport, ...]
    exit_code: ExitCode
    blackout_ms: float | None = None
    notes: tuple[str, ...] = ()
    blackouts: Blackouts | None = None
    undo: bool = False


@dataclass(frozen=True)
class CheckedDomain:
    """What ``check`` says of one domain: the modes without a blocker, and all findings."""

    name: str
    uuid: str
    state: str
    running: str | None
    installed: str | None
    ready: tuple[Mode, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class CheckReport:
    """``mode`` is the requested mode, None for any; ``offline``: only an XML document was read."""

    domains: tuple[CheckedDomain, ...]
    exit_code: ExitCode
    mode: Mode | None = None
    offline: bool = False
    uri: str | None = None


@dataclass(frozen=True)
class Request:
    """The domains of a command, and its options.  ``domains`` are names, ids or UUIDs; empty with ``every``.

    ``mode`` None is `auto`; ``fallback``: the mode for domains that mode transfer can't move; ``rehearse``: a twin
    tries the move before the guest is touched; ``suspend``: the guest is asked to suspend itself to RAM before the
    save, and woken up afterwards (mode ``reboot``).  ``force``: a domain that runs the installed build is moved, too.
    ``disks_unchanged``: the administrator says that nothing has written to disks of which virtcpr can't tell that
    (`restore`).  ``trying``: also with what mode transfer was never run with.  A domain whose forecast pause is longer
    than ``max_pause_ms`` isn't moved; the moves are split so that no blackout is forecast to be longer than
    ``max_blackout_s``.  ``timeout_s``: for copying a guest's RAM (mode ``live``).
    ``emulators``: ways back (`undo`), by UUID, instead of ``emulator``.
    ``rollout``: in waves, None: all together; ``probation``: how long they are watched
    afterwards, None: not at all.  ``exclude``: patterns of names and tags (fnmatch) that are left out.
    ``defined``: with ``every``, also domains that don't run (`certify`).
    ``unready``: only those that mode transfer can't take over as they run now; afterwards it can (modes ``live`` and
    ``reboot``).
    """

    domains: tuple[str, ...] = ()
    every: bool = False
    uri: str | None = None
    emulator: str | None = None
    parallel: int | None = None
    mode: Mode | None = None
    parked: bool = False
    fallback: Mode | None = None
    rehearse: bool = True
    suspend: bool = False
    force: bool = False
    disks_unchanged: bool = False
    trying: bool = False
    max_pause_ms: float | None = None
    max_blackout_s: float | None = None
    timeout_s: float | None = None
    rollout: Rollout | None = None
    probation: Probation | None = None
    exclude: tuple[str, ...] = ()
    defined: bool = False
    unready: bool = False
    emulators: Mapping[str, str] = field(default_factory=dict)


class Readying(Enum):
    """What ``prepare`` did with one domain's persistent XML."""

    PREPARED = "prepared"
    RESTORED = "restored"
    UNCHANGED = "unchanged"
    BLOCKED = "blocked"
    FAILED = "failed"


@dataclass(frozen=True)
class PreparedDomain:
    """One domain of ``prepare``: what it will do, or what it did.

    ``diff`` is a unified diff without secrets; ``kept`` says what ``--undo`` left alone because it changed since;
    ``backup`` is the file that holds the XML as it was.
    """

    name: str
    uuid: str
    result: Readying
    changes: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    diff: str = ""
    findings: tuple[Finding, ...] = ()
    backup: str | None = None
    running: bool = False


@dataclass(frozen=True)
class PrepareReport:
    """What ``prepare`` did, or with ``dry_run`` would do.

    ``offline``: XML was given instead of a domain; ``document`` is then the new XML, None if it is blocked.  ``moves``:
    what became of the running domains, which were to be made ready at once.
    """

    domains: tuple[PreparedDomain, ...]
    exit_code: ExitCode
    dry_run: bool = False
    offline: bool = False
    document: str | None = None
    notes: tuple[str, ...] = ()
    moves: UpgradeReport | None = None
    interrupted: bool = False


class Settled(Enum):
    """How ``recover`` settled an interrupted swap: which process has the guest."""

    FORWARD = "forward"
    BACK = "back"
    NOTHING = "nothing"
    LOST = "lost"
    UNKNOWN = "unknown"
    WAITING = "waiting"  # none; the state is on disk, for `restore`
    PENDING = "pending"  # with --dry-run


@dataclass(frozen=True)
class Recovered:
    """One domain of ``recover``: the journal's state, the states of both processes, and the result."""

    name: str
    uuid: str
    state: str
    old: str
    new: str
    settled: Settled
    text: str


@dataclass(frozen=True)
class RecoverReport:
    domains: tuple[Recovered, ...]
    exit_code: ExitCode
    dry_run: bool = False


class HookAction(Enum):
    INSTALL = "install"
    REMOVE = "remove"
    STATUS = "status"


class HookState(Enum):
    INSTALLED = "installed"
    OUTDATED = "outdated"  # from another version of virtcpr
    MISSING = "missing"
    FOREIGN = "foreign"  # the file in its place isn't virtcpr's


@dataclass(frozen=True)
class Hook:
    name: str
    path: str
    state: HookState


@dataclass(frozen=True)
class HookReport:
    hooks: tuple[Hook, ...]
    exit_code: ExitCode = ExitCode.DONE


# The result of a command.
Report = (
    ListReport
    | CheckReport
    | PlanReport
    | PrepareReport
    | UpgradeReport
    | SaveReport
    | RestoreReport
    | RecoverReport
    | HookReport
    | AutoReport
    | HistoryReport
    | CertifyReport
    | BuildsReport
    | HostReport
)


AWAY, BACK = "libvirt's daemon is away", "libvirt's daemon is back"  # phases of the host


@dataclass(frozen=True)
class Progress:
    """One event of a running upgrade, save or restore; ``pause_ms`` once it is known.

    ``domain`` is empty for an event of the host.
    """

    domain: str
    phase: str
    result: Result | Keeping | None = None
    pause_ms: float | None = None
    text: str = field(default="")


Watch = Callable[[Progress], None]  # called for every step
