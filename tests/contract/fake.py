"""A backend without libvirt: it returns what a test puts in, and remembers what it was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from virtcpr.cli.backend import Watch
from virtcpr.model import (
    CheckedDomain,
    CheckReport,
    DomainReport,
    DomainRow,
    ExitCode,
    Finding,
    Hook,
    HookAction,
    HookReport,
    HookState,
    Keeping,
    KeptDomain,
    ListReport,
    Mode,
    Outlook,
    Phase,
    PlannedStep,
    PlanReport,
    PreparedDomain,
    PrepareReport,
    Progress,
    Readying,
    Recovered,
    RecoverReport,
    Rehearsal,
    Request,
    RestoreReport,
    Result,
    SaveReport,
    Settled,
    Severity,
    Side,
    Trial,
    UpgradeReport,
)

OLD = Side("10.0.2 (Debian 1:10.0.2+ds-2+deb13u1)", 4711)
NEW = Side("10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)", 5822)
UUID = "6b1a0f5e-0d0c-4d5a-9a5e-00000000000{}"
BLOCKER = Finding(
    "ram-not-shared",
    Severity.BLOCKER,
    "its RAM isn't shared, so that new QEMU can't take it over",
    "give it <memoryBacking> with source memfd and access shared,\nthen shut it down and start it again",
)
REFUSED = Finding(
    "refused",
    Severity.BLOCKER,
    "QEMU 11.1.3 refused the guest: VQ 0 vring.num 1024 exceeds allocated max",
    "the guest runs on in 10.0.13",
)
WARNING = Finding("vnc-dropped", Severity.WARNING, "its VNC viewers were disconnected", "connect again")

WEB = DomainReport(
    "web",
    UUID.format(1),
    Result.UPGRADED,
    Mode.TRANSFER,
    OLD,
    NEW,
    41.23456,
    (Phase("spawn", 210.0), Phase("hand-over", 38.12345)),
    (WARNING,),
)
MAIL = DomainReport("mail", UUID.format(2), Result.CURRENT, None, NEW, NEW)
DB = DomainReport("db", UUID.format(3), Result.BLOCKED, None, OLD, NEW, findings=(BLOCKER,))
LAB = DomainReport("lab", UUID.format(4), Result.ROLLED_BACK, Mode.TRANSFER, NEW, None, findings=(REFUSED,))

ROWS = (
    DomainRow("web", UUID.format(1), 3, "running", OLD.version, NEW.version, True, Mode.TRANSFER),
    DomainRow("mail", UUID.format(2), 4, "running", NEW.version, NEW.version, False, Mode.TRANSFER),
    DomainRow("db", UUID.format(3), 17, "paused", OLD.version, NEW.version, True, None, (BLOCKER,)),
    DomainRow("spare", UUID.format(5), None, "shut off", None, None, None, None),
)


EXEC_ONLY = Finding("sandbox", Severity.BLOCKER, "libvirt's sandbox forbids it", "", (Mode.EXEC,), "QEMU")
CPR_ONLY = replace(BLOCKER, modes=(Mode.TRANSFER, Mode.EXEC))
CHECKED = CheckReport(
    (
        CheckedDomain(
            "web",
            UUID.format(1),
            "running",
            OLD.version,
            NEW.version,
            (Mode.TRANSFER, Mode.LIVE, Mode.REBOOT),
            (EXEC_ONLY,),
        ),
        CheckedDomain("db", UUID.format(3), "paused", OLD.version, NEW.version, (Mode.LIVE,), (CPR_ONLY, EXEC_ONLY)),
    ),
    ExitCode.BLOCKED,
)
STEPS = (
    PlannedStep("spawn", "start new QEMU", "before", "end-new"),
    PlannedStep("incoming", "move the guest", "before", None),
    PlannedStep("commit", "let new QEMU run", "at", None),
    PlannedStep("record", "write it down", "after", None),
)
PLANNED = PlanReport(
    (
        Outlook(
            "web",
            UUID.format(1),
            OLD,
            replace(NEW, pid=None),
            findings=(WARNING,),
            mode=Mode.TRANSFER,
            emulator="/usr/bin/qemu-system-x86_64",
            steps=STEPS,
            carried=("standard output", "queue of vnet0"),
            replayed=("set_link name=net0 up=False",),
            forecast_ms=41.25,
            rehearsal=Rehearsal(Trial.GO),
        ),
        Outlook("mail", UUID.format(2), NEW, NEW, Result.CURRENT),
        Outlook("db", UUID.format(3), OLD, NEW, Result.BLOCKED, (BLOCKER,)),
    )
)
DIFF = """--- web.xml
+++ web.xml, edited
@@ -1,4 +1,7 @@
 <domain type='kvm'>
   <memory unit='KiB'>262144</memory>
+  <memoryBacking>
+    <access mode='shared'/>
+  </memoryBacking>
-  <!-- \x1b[31m -->
   <os/>"""
PREPARED = PrepareReport(
    (
        PreparedDomain(
            "web",
            UUID.format(1),
            Readying.PREPARED,
            ("added memoryBacking/access mode='shared'",),
            diff=DIFF,
            backup="/var/lib/virtcpr/xml/web.xml",
            running=True,
        ),
        PreparedDomain("mail", UUID.format(2), Readying.UNCHANGED),
        PreparedDomain("db", UUID.format(3), Readying.BLOCKED, findings=(BLOCKER,)),
    ),
    ExitCode.SOME,
)

RECOVERED = RecoverReport(
    (
        Recovered("web", UUID.format(1), "migrating", "running", "gone", Settled.BACK, "the guest runs on in old QEMU"),
        Recovered("mail", UUID.format(2), "saving", "gone", "", Settled.WAITING, "its state waits for virtcpr restore"),
        Recovered("db", UUID.format(3), "committing", "silent", "gone", Settled.UNKNOWN, "nothing was done"),
    ),
    ExitCode.UNKNOWN,
)
UNFIT = Finding("no-room", Severity.BLOCKER, "its state needs 4096 MiB; 12 are free", "make room in /var/lib/virtcpr")
SAVED = SaveReport(
    (
        KeptDomain(
            "web",
            UUID.format(1),
            Keeping.SAVED,
            OLD.version,
            1_572_864,
            True,
            "2026-05-04T03:02:01+00:00",
            (Phase("save", 41.23456),),
            (WARNING,),
        ),
        KeptDomain("mail", UUID.format(2), Keeping.SAVED, NEW.version, 4 << 30, False, "2026-05-04T03:02:02+00:00"),
        KeptDomain("db", UUID.format(3), Keeping.BLOCKED, OLD.version, findings=(UNFIT,)),
        KeptDomain("lab", UUID.format(4), Keeping.ROLLED_BACK, OLD.version, findings=(REFUSED,)),
    ),
    ExitCode.SOME,
    ("libvirtd was busy",),
)
CORRUPT = Finding("manifest", Severity.BLOCKER, "its manifest isn't what was written", "--discard gives it up")
RESTORED = RestoreReport(
    (
        KeptDomain(
            "web", UUID.format(1), Keeping.RESTORED, NEW.version, 1_572_864, True, None, (Phase("load", 12.3456),)
        ),
        KeptDomain(
            "lab",
            UUID.format(4),
            Keeping.WAITING,
            OLD.version,
            812,
            False,
            "2026-05-04T03:02:02+00:00",
            findings=(REFUSED,),
        ),
        KeptDomain("", UUID.format(3), Keeping.BLOCKED, findings=(CORRUPT,)),
    ),
    ExitCode.SOME,
    812.3456,
)
DISCARDED = RestoreReport(
    (
        KeptDomain("web", UUID.format(1), Keeping.DISCARDED, OLD.version, 1_572_864, True, "2026-05-04T03:02:01+00:00"),
        KeptDomain("db", UUID.format(3), Keeping.BLOCKED, OLD.version, findings=(BLOCKER,)),
    ),
    ExitCode.SOME,
)
HOOKS = HookReport((Hook("libvirt-daemon", "/etc/libvirt/hooks/daemon.d/virtcpr", HookState.INSTALLED),))


Kept = TypeVar("Kept", SaveReport, RestoreReport)


def one(report: DomainReport = WEB, code: ExitCode = ExitCode.DONE) -> UpgradeReport:
    return UpgradeReport((report,), code, 812.3456)


def outlook_of(report: DomainReport) -> Outlook:
    verdict = report.result if report.result in (Result.CURRENT, Result.BLOCKED) else None
    return Outlook(report.name, report.uuid, report.source, report.target, verdict, report.findings, report.mode)


@dataclass
class FakeUpgrade:
    outlooks: tuple[Outlook, ...]
    result: UpgradeReport
    during: Callable[[], object]
    runs: int = 0

    def run(self, watch: Watch) -> UpgradeReport:
        self.runs += 1
        for domain in self.result.domains:
            watch(Progress(domain.name, "hand-over"))
        self.during()
        for domain in self.result.domains:
            watch(Progress(domain.name, "done", domain.result, domain.pause_ms))
        return self.result


@dataclass
class FakeKeeping(Generic[Kept]):
    """Of ``save`` and of ``restore``: its outlook is its result, but for what fails only when it is tried."""

    result: Kept
    wanted: Keeping
    during: Callable[[], object]
    runs: int = 0

    @property
    def outlooks(self) -> tuple[KeptDomain, ...]:
        return tuple(map(self._outlook, self.result.domains))

    def _outlook(self, one: KeptDomain) -> KeptDomain:
        if one.result in (Keeping.ROLLED_BACK, Keeping.WAITING, Keeping.FAILED, Keeping.UNKNOWN):
            one = replace(one, result=self.wanted, findings=())
        return replace(one, phases=(), saved_at=None if self.wanted is Keeping.SAVED else one.saved_at)

    def run(self, watch: Watch) -> Kept:
        self.runs += 1
        for domain in self.result.domains:
            watch(Progress(domain.name, "state"))
        self.during()
        for domain in self.result.domains:
            watch(Progress(domain.name, "done", domain.result))
        return self.result


@dataclass
class FakePreparation:
    result: PrepareReport
    runs: int = 0

    @property
    def outlooks(self) -> tuple[PreparedDomain, ...]:
        return self.result.domains

    def report(self, *, dry_run: bool = False) -> PrepareReport:
        return replace(self.result, dry_run=dry_run)

    def run(self) -> PrepareReport:
        self.runs += 1
        return self.result


@dataclass
class FakeBackend:
    """``opening`` is called on the way in, ``during`` in the middle of the swap: to raise, or to wait."""

    listed: ListReport = field(default_factory=lambda: ListReport(ROWS))
    result: UpgradeReport = field(default_factory=one)
    checked: CheckReport = field(default_factory=lambda: CHECKED)
    planned: PlanReport = field(default_factory=lambda: PLANNED)
    prepared: PrepareReport = field(default_factory=lambda: PREPARED)
    opening: Callable[[], object] = lambda: None
    during: Callable[[], object] = lambda: None
    asked: list[tuple[str | None, tuple[str, ...]]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    upgrades: list[FakeUpgrade] = field(default_factory=list)
    recovered: RecoverReport = field(default_factory=lambda: RECOVERED)
    recoveries: list[tuple[tuple[str, ...], bool, bool]] = field(default_factory=list)
    actions: list[HookAction] = field(default_factory=list)
    documents: list[tuple[str, Mode | None]] = field(default_factory=list)
    templates: list[str | None] = field(default_factory=list)
    preparations: list[FakePreparation] = field(default_factory=list)
    undone: list[bool] = field(default_factory=list)
    saved: SaveReport = field(default_factory=lambda: SAVED)
    restored: RestoreReport = field(default_factory=lambda: RESTORED)
    savings: list[FakeKeeping[SaveReport]] = field(default_factory=list)
    restorings: list[FakeKeeping[RestoreReport]] = field(default_factory=list)
    discards: list[bool] = field(default_factory=list)
    closed: int = 0
    named: list[tuple[str | None, str]] = field(default_factory=list)

    def names(self, uri: str | None, which: str) -> list[str]:
        self.named.append((uri, which))
        self.opening()
        return ["db", "mail", "web", "web 2", "a$(reboot)", "-a"]

    def list_domains(self, uri: str | None, domains: tuple[str, ...]) -> ListReport:
        self.asked.append((uri, domains))
        self.opening()
        return self.listed

    def check(self, request: Request) -> CheckReport:
        self.requests.append(request)
        self.opening()
        return self.checked

    def check_document(self, source: str, mode: Mode | None) -> CheckReport:
        self.documents.append((source, mode))
        self.opening()
        return self.checked

    def plan(self, request: Request) -> PlanReport:
        self.requests.append(request)
        self.opening()
        return self.planned

    def recover(self, names: tuple[str, ...], *, dry_run: bool, start_daemon: bool) -> RecoverReport:
        self.recoveries.append((names, dry_run, start_daemon))
        self.opening()
        return replace(self.recovered, dry_run=dry_run)

    def hooks(self, action: HookAction) -> HookReport:
        self.actions.append(action)
        self.opening()
        return HOOKS

    def prepare_document(
        self, source: str, mode: Mode, template: str | None, *, undo: bool, dry_run: bool
    ) -> PrepareReport:
        self.templates.append(template)
        self.documents.append((source, mode))
        self.undone.append(undo)
        self.opening()
        return replace(self.prepared, dry_run=dry_run, offline=True)

    @contextmanager
    def open_preparation(self, request: Request, template: str | None, *, undo: bool) -> Iterator[FakePreparation]:
        self.templates.append(template)
        self.requests.append(request)
        self.undone.append(undo)
        self.opening()
        preparation = FakePreparation(self.prepared)
        self.preparations.append(preparation)
        try:
            yield preparation
        finally:
            self.closed += 1

    @contextmanager
    def open_upgrade(self, request: Request) -> Iterator[FakeUpgrade]:
        self.requests.append(request)
        self.opening()
        upgrade = FakeUpgrade(tuple(map(outlook_of, self.result.domains)), self.result, self.during)
        self.upgrades.append(upgrade)
        try:
            yield upgrade
        finally:
            self.closed += 1

    @contextmanager
    def open_save(self, request: Request) -> Iterator[FakeKeeping[SaveReport]]:
        self.requests.append(request)
        self.opening()
        saving = FakeKeeping(self.saved, Keeping.SAVED, self.during)
        self.savings.append(saving)
        try:
            yield saving
        finally:
            self.closed += 1

    @contextmanager
    def open_restore(self, request: Request, *, discard: bool) -> Iterator[FakeKeeping[RestoreReport]]:
        self.requests.append(request)
        self.discards.append(discard)
        self.opening()
        wanted = Keeping.DISCARDED if discard else Keeping.RESTORED
        restoring = FakeKeeping(self.restored, wanted, self.during)
        self.restorings.append(restoring)
        try:
            yield restoring
        finally:
            self.closed += 1

    @property
    def runs(self) -> int:
        """How often a swap, a save or a restore was begun."""
        kept = [*(one.runs for one in self.savings), *(one.runs for one in self.restorings)]
        return sum(kept) + sum(upgrade.runs for upgrade in self.upgrades)


def raises(error: BaseException) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail
