"""`upgrade --fallback reboot`: two batches, and when the second isn't begun."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from virtcpr.actions.upgrade import Both
from virtcpr.model import DomainReport, ExitCode, Finding, Outlook, Result, Severity, UpgradeReport
from virtcpr.plan.fallback import merged
from virtcpr.plan.outcome import exit_code

UNSHARED = Finding("memory", Severity.BLOCKER, "RAM isn't shared", "prepare it")
FULL = Finding("room", Severity.BLOCKER, "no room", "free some")


class Move(SimpleNamespace):
    def turn_back(self, reason: str) -> None:
        self.result, self.reason = Result.ROLLED_BACK, reason


def ended(name: str, result: Result, *findings: Finding) -> DomainReport:
    return DomainReport(name, name, result, findings=findings)


def both(*transferred: DomainReport, signal: bool = False) -> tuple[Any, Any]:
    """The two batches as one; `web` is the domain that is left to mode reboot."""
    move: Any = Move(facts=SimpleNamespace(name="web"), result=None, reason="")

    def first(_: object) -> UpgradeReport:
        made.interrupt.requested = signal
        return UpgradeReport(transferred, exit_code({one.result for one in transferred}), 100.0, ("first",))

    def second(_: object) -> UpgradeReport:
        move.result = move.result or Result.UPGRADED
        return UpgradeReport((ended("web", move.result),), ExitCode.DONE, 50.0, ("second",))

    made: Any = Both(
        SimpleNamespace(run=first, connection="opened anew"),  # type: ignore[arg-type]
        SimpleNamespace(run=second, moves=[move], connection="closed"),  # type: ignore[arg-type]
    )
    return made, move


def test_one_report_of_both() -> None:
    made, _ = both(ended("db", Result.UPGRADED), ended("web", Result.BLOCKED, UNSHARED))
    report = made.run(print)
    assert [(one.name, one.result) for one in report.domains] == [("db", Result.UPGRADED), ("web", Result.UPGRADED)]
    assert (report.exit_code, report.blackout_ms, report.notes) == (ExitCode.DONE, 150.0, ("first", "second"))
    assert made.second.connection == "opened anew"


def test_nothing_is_begun_after_a_signal() -> None:
    made, move = both(ended("web", Result.BLOCKED, UNSHARED), signal=True)
    made.run(print)
    assert (move.result, move.reason) == (Result.ROLLED_BACK, "web: interrupted")


def test_nothing_is_begun_while_a_guest_is_unsettled() -> None:
    made, move = both(ended("db", Result.UNKNOWN), ended("web", Result.BLOCKED, UNSHARED))
    made.run(print)
    assert (move.result, move.reason) == (Result.ROLLED_BACK, "web: the move of db isn't settled")


@pytest.mark.parametrize(
    ("reboot", "findings"), [(None, (FULL,)), (Result.BLOCKED, (UNSHARED, FULL))], ids=["can", "cannot"]
)
def test_the_word_on_a_domain_is_that_of_the_mode_that_can(
    reboot: Result | None, findings: tuple[Finding, ...]
) -> None:
    first = Outlook("web", "web", None, None, Result.BLOCKED, (UNSHARED,))
    (word,) = merged([first], [Outlook("web", "web", None, None, reboot, (FULL,))])
    assert (word.verdict, word.findings) == (reboot, findings)
