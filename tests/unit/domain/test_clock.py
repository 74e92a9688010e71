"""The clock of a guest whose QEMU is started with a date."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.support import facts
from virtcpr.domain.argv import Option
from virtcpr.domain.clock import later
from virtcpr.plan.transfer.swap import plan


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("base=2024-02-28T23:59:50,driftfix=slew", "base=2024-02-29T00:00:05,driftfix=slew"),
        ("base=2024-1-2T3:04:05", "base=2024-01-02T03:04:20"),
        ("base=2024-01-02", "base=2024-01-02T00:00:15"),
        ("base=2024-01-02T03:04:05,clock=vm", "base=2024-01-02T03:04:05,clock=vm"),
        ("base=utc,clock=rt", "base=utc,clock=rt"),
        ("base=localtime", "base=localtime"),
        ("driftfix=slew", "driftfix=slew"),
    ],
)
def test_a_date_is_that_of_the_start(before: str, after: str) -> None:
    assert later(Option("rtc", before), 14.8).value == after


def test_new_qemu_is_started_with_the_time_that_it_is_in_old() -> None:
    domain = facts.domain()
    assert domain.process is not None
    argv = list(domain.process.argv)
    argv[argv.index("-rtc") + 1] = "base=2024-01-02T03:04:05"
    process = replace(domain.process, argv=tuple(argv), age=86400.2)
    assert "base=2024-01-03T03:04:05" in plan(replace(domain, process=process)).argv
