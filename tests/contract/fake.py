"""A backend without libvirt: it returns what a test puts in, and remembers what it was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Generic, TypeVar

from tests.contract.fake_auto import FakeAuto
from tests.contract.reports import (
    BUILDS,
    CERTIFIED,
    CHECKED,
    HOOKS,
    HOST,
    PLANNED,
    PREPARED,
    RECOVERED,
    RESTORED,
    ROWS,
    SAVED,
    one,
    outlook_of,
)
from virtcpr.model import (
    Blackouts,
    BuildsReport,
    Candidates,
    CertifyReport,
    CheckReport,
    HookAction,
    HookReport,
    HostReport,
    Keeping,
    KeptDomain,
    ListReport,
    Mode,
    Outlook,
    PlanReport,
    PreparedDomain,
    PrepareReport,
    Progress,
    RecoverReport,
    Request,
    RestoreReport,
    SaveReport,
    UpgradeReport,
    Watch,
)

Kept = TypeVar("Kept", SaveReport, RestoreReport)


@dataclass
class FakeUpgrade:
    outlooks: tuple[Outlook, ...]
    result: UpgradeReport
    during: Callable[[], object]
    forecast: Blackouts | None = None
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
class FakeUndoing(FakeUpgrade):
    notes: tuple[str, ...] = ()


@dataclass
class FakeReadying:
    done: PrepareReport
    upgrade: FakeUpgrade

    @property
    def outlooks(self) -> tuple[Outlook, ...]:
        return self.upgrade.outlooks

    @property
    def forecast(self) -> Blackouts | None:
        return self.upgrade.forecast

    def run(self, watch: Watch) -> PrepareReport:
        return replace(self.done, moves=self.upgrade.run(watch))


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
class FakeBackend(FakeAuto):
    """``opening`` is called on the way in, ``during`` in the middle of the swap: to raise, or to wait."""

    listed: ListReport = field(default_factory=lambda: ListReport(ROWS))
    result: UpgradeReport = field(default_factory=one)
    forecast: Blackouts | None = None
    pauses: tuple[float | None, ...] = ()  # that are forecast for the domains of ``result``
    checked: CheckReport = field(default_factory=lambda: CHECKED)
    planned: PlanReport = field(default_factory=lambda: PLANNED)
    certified: CertifyReport = field(default_factory=lambda: CERTIFIED)
    candidates: list[Candidates] = field(default_factory=list)
    prepared: PrepareReport = field(default_factory=lambda: PREPARED)
    asked: list[tuple[str | None, tuple[str, ...]]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    left: tuple[str, ...] = ()  # notes of an undo
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
    batches: list[int | None] = field(default_factory=list)
    keeps: list[bool] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)  # what is read, and what was written
    closed: int = 0
    refreshed: list[tuple[str | None, int | None]] = field(default_factory=list)
    not_refreshed: str | None = None
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

    def certify(self, request: Request, candidates: Candidates) -> CertifyReport:
        self.requests.append(request)
        self.candidates.append(candidates)
        self.opening()
        return self.certified

    def recover(self, uri: str | None, names: tuple[str, ...], *, dry_run: bool, start_daemon: bool) -> RecoverReport:
        self.recoveries.append((names, dry_run, start_daemon))
        self.opening()
        return replace(self.recovered, dry_run=dry_run)

    def hooks(self, action: HookAction) -> HookReport:
        self.actions.append(action)
        self.opening()
        return HOOKS

    @contextmanager
    def open_readying(self, request: Request, done: PrepareReport) -> Iterator[FakeReadying]:
        self.requests.append(request)
        with self.open_upgrade(request) as upgrade:
            yield FakeReadying(done, upgrade)

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

    def _outlooks(self) -> tuple[Outlook, ...]:
        outlooks = map(outlook_of, self.result.domains)
        return tuple(replace(one, forecast_ms=ms) for one, ms in zip_longest(outlooks, self.pauses))

    @contextmanager
    def open_upgrade(self, request: Request) -> Iterator[FakeUpgrade]:
        self.requests.append(request)
        self.opening()
        upgrade = FakeUpgrade(self._outlooks(), self.result, self.during, self.forecast)
        self.upgrades.append(upgrade)
        try:
            yield upgrade
        finally:
            self.closed += 1

    @contextmanager
    def open_undo(self, request: Request, batch: int | None) -> Iterator[FakeUndoing]:
        self.batches.append(batch)
        with self.open_upgrade(request) as upgrade:
            result = replace(upgrade.result, undo=True)
            undoing = FakeUndoing(upgrade.outlooks, result, upgrade.during, upgrade.forecast, notes=self.left)
            self.upgrades[-1] = undoing
            yield undoing

    def builds(self, uri: str | None, *, keep: bool) -> BuildsReport:
        self.keeps.append(keep)
        self.opening()
        return BUILDS

    def report(self, uri: str | None) -> HostReport:
        self.asked.append((uri, ()))
        self.opening()
        return HOST

    def read_report(self, source: str) -> str:
        return self.files[source]

    def write_page(self, path: str, page: str) -> None:
        self.files[path] = page

    def refresh(self, uri: str | None, exit_code: int | None) -> str | None:
        assert self.closed or self.recoveries or exit_code is None, "the lock is free"
        self.refreshed.append((uri, exit_code))
        return self.not_refreshed

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
