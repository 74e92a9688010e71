"""Stands in for the upgrades that `auto` asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from virtcpr.actions.auto import run as auto
from virtcpr.actions.daemon import blackout
from virtcpr.errors import HostError, VirtcprError
from virtcpr.host.processes.interrupt import Interrupt
from virtcpr.model import (
    AutoReport,
    DomainReport,
    ExitCode,
    Mode,
    Outlook,
    Request,
    Result,
    Side,
    UpgradeReport,
)
from virtcpr.plan import auto as judging
from virtcpr.plan.auto import AutoPlan, Candidate
from virtcpr.plan.policy import Auto, Policy
from virtcpr.plan.windows import Moment

OLD, NEW = Side("10.0.2", 1), Side("10.0.13")
APPLY = Policy(auto=Auto.APPLY, parallel=3)
NOON = Moment(2026, 11, 28, 5, 12 * 60)


def planned(*names: str, rules: Policy = APPLY) -> AutoPlan:
    found = [Candidate(Outlook(name, name, OLD, NEW, mode=Mode.TRANSFER)) for name in names]
    return judging.plan(found, rules, NOON)


@dataclass
class Upgrades:
    """Stands in for the upgrades: ``becomes`` says what comes of a domain, ``requests`` what was asked for."""

    becomes: dict[str, Result] = field(default_factory=dict)
    refuses: VirtcprError | None = None
    requests: list[Request] = field(default_factory=list)
    connection: object = None
    busy: str | None = None
    looking: Callable[[], object] = lambda: None
    moving: Callable[[Interrupt], object] = lambda _: None

    @contextmanager
    def open(self, request: Request) -> Iterator[Upgrades]:
        if self.refuses is not None:
            raise self.refuses
        self.requests.append(request)
        self.interrupt = Interrupt()
        self.looking()
        yield self

    def refuse_jobs(self, connection: object) -> None:
        if self.busy is not None:
            raise HostError(self.busy)

    def run(self, watch: object) -> UpgradeReport:
        with self.interrupt:
            self.moving(self.interrupt)
        uuids = self.requests[-1].domains
        found = tuple(DomainReport(u, u, self.becomes.get(u, Result.UPGRADED), Mode.TRANSFER, OLD, NEW) for u in uuids)
        return UpgradeReport(found, ExitCode.DONE, 100.0, (f"note {len(self.requests)}",))


@pytest.fixture
def upgrades(monkeypatch: pytest.MonkeyPatch) -> Upgrades:
    made = Upgrades()
    monkeypatch.setattr(auto, "open_upgrade", made.open)
    monkeypatch.setattr(auto, "this_moment", lambda: NOON)
    monkeypatch.setattr(blackout, "refuse_jobs", made.refuse_jobs)
    return made


def actions(report: AutoReport) -> str:
    return " ".join(f"{one.name}:{one.action.value}" for one in report.domains)
