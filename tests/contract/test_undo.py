"""``undo`` and ``builds``: what they ask for, their output, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.contract.conftest import Cli
from tests.contract.fake import FakeBackend
from tests.contract.reports import BUILDS
from tests.contract.schema import checked
from virtcpr.model import BuildsReport, ExitCode, Request, UpgradeReport

Golden = Callable[[str, str], None]


@pytest.mark.parametrize(
    ("args", "batch", "request_"),
    [
        ((), None, Request()),
        (("7",), 7, Request()),
        (("7", "--no-rehearse"), 7, Request(rehearse=False)),
        (("--no-rehearse",), None, Request(rehearse=False)),
    ],
)
def test_which_batch_and_how(cli: Cli, args: tuple[str, ...], batch: int | None, request_: Request) -> None:
    backend = FakeBackend()
    outcome = cli("undo", "-y", *args, backend=backend)
    assert (outcome.code, backend.batches, backend.requests) == (0, [batch], [request_])
    assert backend.refreshed == [(None, 0)]


def test_it_asks_first(cli: Cli) -> None:
    backend = FakeBackend()
    outcome = cli("undo", backend=backend)
    assert outcome.code == 2
    assert backend.runs == 0


def test_its_json_is_that_of_upgrade(cli: Cli) -> None:
    document = checked(cli("undo", "-y", "-o", "json"))
    assert document["command"] == "undo"
    assert [domain["result"] for domain in document["domains"]] == ["upgraded"]


def test_a_dry_run_is_a_plan(cli: Cli) -> None:
    backend = FakeBackend(left=("db was moved again since: it stays",))
    document = checked(cli("undo", "7", "--dry-run", "-o", "json", backend=backend))
    assert (document["command"], document["domains"][0]["action"]) == ("plan", "move")
    assert document["notes"] == ["db was moved again since: it stays"]
    assert (backend.batches, backend.runs, backend.refreshed) == ([7], 0, [])
    table = cli("undo", "--dry-run", backend=backend).out
    assert "1 domain: 1 to move\ndb was moved again since: it stays\n" in table


def test_a_dry_run_of_nothing(cli: Cli) -> None:
    backend = FakeBackend(result=UpgradeReport((), ExitCode.DONE), left=("nothing to undo",))
    assert cli("undo", "--dry-run", backend=backend).out == "nothing to undo\n"


@pytest.mark.parametrize("batch", ["0", "-1", "web"])
def test_a_batch_is_a_number(cli: Cli, batch: str) -> None:
    backend = FakeBackend()
    assert cli("undo", "-y", batch, backend=backend).code == 2
    assert backend.batches == []


def test_the_table_of_builds(cli: Cli, golden: Golden) -> None:
    backend = FakeBackend()
    golden("builds.txt", cli("builds", backend=backend).out)
    assert backend.keeps == [False]


def test_builds_as_json(cli: Cli) -> None:
    backend = FakeBackend()
    document = checked(cli("builds", "--keep", "-o", "json", backend=backend))
    assert backend.keeps == [True]
    assert (document["builds"][0]["program"], document["builds"][0]["runs"]) == (BUILDS.builds[0].program, True)


def test_what_could_not_be_kept(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = "QEMU 10.0.2 can't be kept in /var/lib/virtcpr-builds: No space left on device"
    report = replace(BUILDS, builds=(), exit_code=ExitCode.FAILED, notes=(problem,))

    def builds(_self: FakeBackend, _uri: str | None, *, keep: bool) -> BuildsReport:
        assert keep
        return report

    monkeypatch.setattr(FakeBackend, "builds", builds)
    outcome = cli("builds", "--keep")
    assert (outcome.code, problem in outcome.out) == (1, True)
