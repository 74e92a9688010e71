"""``auto`` and ``history``: what they ask for, whom they tell, tables and JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.contract.conftest import Cli
from tests.contract.fake import FakeBackend, raises
from tests.contract.reports import AUTO, HISTORY, UUID
from tests.contract.schema import SCHEMA, checked
from virtcpr.errors import HostError, ParseError
from virtcpr.model import Action, AutoReport, ExitCode, HistoryReport, Mode, Result

Golden = Callable[[str, str], None]


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_auto(cli: Cli, golden: Golden) -> None:
    backend = FakeBackend()
    outcome = cli("-q", "-c", "qemu:///system", "auto", backend=backend)
    golden("auto.txt", outcome.out)
    assert outcome.code == 3
    assert backend.auto_asked == [("qemu:///system", False, False)]
    assert backend.automatics[0].runs == 1


def test_metrics_alone(cli: Cli) -> None:
    backend = FakeBackend()
    outcome = cli("auto", "--metrics", backend=backend)
    assert (outcome.code, outcome.out) == (0, "the file for Prometheus was written\n")
    assert backend.refreshed == [(None, None)]
    backend.not_refreshed = "only root may write it"
    said = cli("auto", "--metrics", backend=backend).out
    assert said == "no file was written for Prometheus: only root may write it\n"
    refused = cli("auto", "--metrics", "--pending", backend=backend)
    assert (refused.code, "--metrics moves nothing: leave out --pending" in refused.err) == (2, True)


def test_it_asks_nothing(cli: Cli) -> None:
    backend = FakeBackend()
    assert cli("auto", "--pending", backend=backend).code == 3
    assert backend.auto_asked == [(None, True, False)]
    assert "[y/N]" not in cli("auto", typed="").err


@pytest.mark.parametrize(("args", "changes"), [((), False), (("--changes",), True)])
def test_only_what_is_new_is_told_if_asked(cli: Cli, args: tuple[str, ...], changes: bool) -> None:
    backend = FakeBackend()
    cli("auto", *args, backend=backend)
    assert backend.automatics[0].changes == [changes]


def test_whoever_is_told_gets_json_and_a_table(cli: Cli, golden: Golden) -> None:
    backend = FakeBackend()
    outcome = cli("-q", "auto", "-o", "json", backend=backend)
    ((report, document, table),) = backend.automatics[0].told
    assert report is AUTO
    assert json.loads(document) == checked(outcome)
    golden("auto-mail.txt", table + "\n")
    assert max(map(len, table.splitlines())) <= 100


def test_a_dry_run_does_and_tells_nothing(cli: Cli, golden: Golden) -> None:
    backend = FakeBackend(automatic=replace(AUTO, exit_code=ExitCode.DONE, blackout_ms=None))
    outcome = cli("auto", "--dry-run", backend=backend)
    golden("auto-dry-run.txt", outcome.out)
    (automatic,) = backend.automatics
    assert (outcome.code, automatic.runs, automatic.told) == (0, 0, [])
    document = checked(cli("auto", "--dry-run", "-o", "json", backend=backend))
    assert (document["dry_run"], document["domains"][0]["action"]) == (True, "move")


def test_auto_in_json(cli: Cli) -> None:
    document = checked(cli("auto", "-o", "json"))
    web, _, db, lab, spare = document["domains"]
    assert (web["action"], web["mode"], web["pause_ms"], web["to"]["pid"]) == ("upgraded", "transfer", 41.235, 5822)
    assert (db["action"], db["findings"][0]["code"]) == ("blocked", "ram-not-shared")
    assert (lab["action"], lab["reason"]) == ("left", "its metadata says off")
    assert spare["action"] == "told"
    assert (document["blackout_ms"], document["dry_run"], document["notes"]) == (812.346, False, ["libvirtd was busy"])


@pytest.mark.parametrize("note", ['auto is "off": nothing was looked at', "nothing is pending"])
def test_nothing_to_do(cli: Cli, note: str) -> None:
    backend = FakeBackend(automatic=AutoReport((), ExitCode.DONE, notes=(note,)))
    outcome = cli("auto", "--pending", backend=backend)
    assert (outcome.code, outcome.out) == (0, note + "\n")


@pytest.mark.parametrize(
    ("error", "code"), [(ParseError("a.toml: there is no key 'x'"), "parse"), (HostError("only root"), "host")]
)
def test_auto_that_fails_as_a_whole(cli: Cli, error: Exception, code: str) -> None:
    document = checked(cli("auto", "-o", "json", backend=FakeBackend(opening=raises(error))))
    assert (document["exit_code"], document["error"]["code"], document["blackout_ms"]) == (1, code, None)


def test_a_defect_leaves_the_guests_unknown(cli: Cli) -> None:
    backend = FakeBackend(during=raises(ValueError("x")))
    document = checked(cli("auto", "-o", "json", backend=backend))
    assert (document["exit_code"], document["error"]["code"]) == (6, "unsettled")


def test_history(cli: Cli, golden: Golden, in_berlin: None) -> None:
    backend = FakeBackend()
    golden("history.txt", cli("history", backend=backend).out)
    cli("history", "web", UUID.format(4), "-n", "3", backend=backend)
    assert backend.past_asked == [((), None), (("web", UUID.format(4)), 3)]


def test_no_history(cli: Cli) -> None:
    assert cli("history", backend=FakeBackend(past=HistoryReport(()))).out == "nothing was moved yet\n"


def test_history_in_json(cli: Cli) -> None:
    document = checked(cli("history", "--lines", "2", "-o", "json"))
    web, lab = document["entries"]
    assert document["domains"] == []
    assert (web["time"], web["result"], web["from"]) == (
        "2026-05-04T03:02:01+00:00",
        "upgraded",
        HISTORY.entries[0].source,
    )
    assert web["phases"] == [{"name": "spawn", "ms": 210.0}, {"name": "hand-over", "ms": 38.123}]
    assert (lab["mode"], lab["to"], lab["pause_ms"], lab["phases"]) == ("reboot", None, None, [])


@pytest.mark.parametrize("lines", ["0", "-1", "x"])
def test_history_of_no_lines(cli: Cli, lines: str) -> None:
    outcome = cli("history", "-n", lines, "-o", "json")
    assert checked(outcome)["error"]["code"] == "usage"


def test_a_name_cannot_harm_the_terminal(cli: Cli) -> None:
    bad = replace(HISTORY.entries[0], name="we\x1bb", time="never")
    assert "never  we\\x1bb" in cli("history", backend=FakeBackend(past=HistoryReport((bad,)))).out


def test_the_schema_knows_every_action() -> None:
    kinds = SCHEMA["$defs"]
    assert kinds["automatic"]["properties"]["action"]["enum"] == [action.value for action in Action]
    assert kinds["entry"]["properties"]["result"]["enum"] == [result.value for result in Result]
    assert {action.result for action in Action} == {None, *Result}
    assert Mode.REBOOT.value in kinds["automatic"]["properties"]["mode"]["enum"]
