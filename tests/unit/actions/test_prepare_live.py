"""`prepare --live`: which domains are moved after their XML was prepared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from virtcpr.actions import prepare_live
from virtcpr.actions.prepare_live import open_readying
from virtcpr.model import (
    DomainReport,
    ExitCode,
    Mode,
    PreparedDomain,
    PrepareReport,
    Readying,
    Request,
    Result,
    UpgradeReport,
)

DONE = PrepareReport(
    (
        PreparedDomain("web", "1", Readying.PREPARED, running=True),
        PreparedDomain("mail", "2", Readying.UNCHANGED, running=True),
        PreparedDomain("off", "3", Readying.PREPARED),
        PreparedDomain("bad", "4", Readying.BLOCKED, running=True),
    ),
    ExitCode.SOME,
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    requests: list[Request] = []

    class Moves:
        def run(self, _watch: object) -> UpgradeReport:
            found = tuple(DomainReport(uuid, uuid, Result.ROLLED_BACK) for uuid in requests[-1].domains)
            return UpgradeReport(found, ExitCode.ROLLED_BACK)

    @contextmanager
    def opened(request: Request) -> Iterator[Moves]:
        requests.append(request)
        yield Moves()

    monkeypatch.setattr(prepare_live, "open_upgrade", opened)
    return requests


def make_ready(request: Request, done: PrepareReport) -> PrepareReport:
    with open_readying(request, done) as planned:
        return planned.run(lambda _: None)


@pytest.mark.parametrize("mode", [Mode.LIVE, Mode.REBOOT])
def test_those_that_run_and_are_prepared_are_moved(asked: list[Request], mode: Mode) -> None:
    done = make_ready(Request(every=True, mode=mode), DONE)
    assert asked == [Request(("1", "2"), mode=mode, force=True, unready=True)]
    assert done.moves is not None
    assert [domain.uuid for domain in done.moves.domains] == ["1", "2"]
    assert done.exit_code is ExitCode.SOME


def test_after_a_signal_none_is(asked: list[Request]) -> None:
    done = make_ready(Request(every=True), replace(DONE, interrupted=True))
    assert (asked, done.moves, done.notes) == ([], None, ("interrupted: no running domain was moved",))


def test_where_none_runs_nothing_is_opened(asked: list[Request]) -> None:
    alone = replace(DONE, domains=DONE.domains[2:])
    assert make_ready(Request(every=True), alone) is alone
    assert asked == []
