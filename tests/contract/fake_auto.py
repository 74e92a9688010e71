"""The part of the fake backend that answers ``auto`` and ``history``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from tests.contract.reports import AUTO, HISTORY
from virtcpr.model import Action, AutoReport, HistoryReport, Progress, Watch


@dataclass
class FakeAutomatic:
    result: AutoReport
    during: Callable[[], object]
    runs: int = 0
    told: list[tuple[AutoReport, str, str]] = field(default_factory=list)
    changes: list[bool] = field(default_factory=list)

    @property
    def report(self) -> AutoReport:
        domains = (replace(d, action=Action.MOVE) if d.action is Action.UPGRADED else d for d in self.result.domains)
        return replace(self.result, domains=tuple(domains), dry_run=True)

    @property
    def moving(self) -> tuple[str, ...]:
        return tuple(domain.name for domain in self.result.domains if domain.action is Action.UPGRADED)

    def run(self, watch: Watch) -> AutoReport:
        self.runs += 1
        for name in self.moving:
            watch(Progress(name, "hand-over"))
        self.during()
        return self.result

    def tell(self, report: AutoReport, document: str, table: str, *, changes: bool = False) -> None:
        self.told.append((report, document, table))
        self.changes.append(changes)


@dataclass
class FakeAuto:
    """``opening`` and ``during`` are those of the whole fake."""

    opening: Callable[[], object] = field(default=lambda: None, kw_only=True)
    during: Callable[[], object] = field(default=lambda: None, kw_only=True)
    automatic: AutoReport = field(default=AUTO, kw_only=True)
    past: HistoryReport = field(default=HISTORY, kw_only=True)
    automatics: list[FakeAutomatic] = field(default_factory=list, kw_only=True)
    auto_asked: list[tuple[str | None, bool, bool]] = field(default_factory=list, kw_only=True)
    past_asked: list[tuple[tuple[str, ...], int | None]] = field(default_factory=list, kw_only=True)

    @contextmanager
    def open_auto(self, uri: str | None, *, pending: bool, dry_run: bool) -> Iterator[FakeAutomatic]:
        self.auto_asked.append((uri, pending, dry_run))
        self.opening()
        made = FakeAutomatic(self.automatic, self.during)
        self.automatics.append(made)
        yield made

    def history(self, uri: str | None, domains: tuple[str, ...], last: int | None) -> HistoryReport:
        self.past_asked.append((domains, last))
        self.opening()
        return self.past
