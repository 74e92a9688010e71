"""JSON: one object on stdout whatever happens, as schema-1.json says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.contract.conftest import Cli
from tests.contract.fake import FakeBackend, raises
from tests.contract.reports import DB, LAB, MAIL, PLANNED, WEB, one
from tests.contract.schema import SCHEMA, VALIDATOR, checked
from virtcpr.cli.app import app
from virtcpr.errors import HostError, Unsettled
from virtcpr.model import AVAILABLE, DomainRow, ExitCode, Keeping, ListReport, Mode, PlanReport, Result, UpgradeReport


def test_the_schema_is_one() -> None:
    VALIDATOR.check_schema(SCHEMA)
    assert SCHEMA["$defs"]["upgraded"]["properties"]["result"]["enum"] == [result.value for result in Result]
    assert SCHEMA["$defs"]["kept"]["properties"]["result"]["enum"] == [result.value for result in Keeping]
    modes = [mode.value for mode in AVAILABLE]
    for kind, member in (("upgraded", "mode"), ("planned", "mode"), ("listed", "ready")):
        assert SCHEMA["$defs"][kind]["properties"][member]["enum"] == [*modes, None]
    commands = [
        *(command.name for command in app.registered_commands),
        *(group.name for group in app.registered_groups),
    ]
    assert SCHEMA["properties"]["command"]["enum"] == [*commands, None]
    named = f"{', '.join(modes[:-1])} and {modes[-1]}"
    assert named in SCHEMA["$defs"]["checked"]["properties"]["modes"]["description"]


def test_upgrade(cli: Cli) -> None:
    document = checked(cli("upgrade", "web", "-y", "-o", "json"))
    assert document == {
        "schema": 1,
        "command": "upgrade",
        "exit_code": 0,
        "domains": [
            {
                "name": "web",
                "uuid": WEB.uuid,
                "result": "upgraded",
                "mode": "transfer",
                "from": {"version": "10.0.2 (Debian 1:10.0.2+ds-2+deb13u1)", "pid": 4711},
                "to": {"version": "10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)", "pid": 5822},
                "pause_ms": 41.235,
                "phases": [{"name": "spawn", "ms": 210.0}, {"name": "hand-over", "ms": 38.123}],
                "findings": [
                    {
                        "code": "vnc-dropped",
                        "severity": "warning",
                        "message": "its VNC viewers were disconnected",
                        "remedy": "connect again",
                        "modes": ["transfer", "live", "reboot", "exec"],
                        "source": "",
                    }
                ],
            }
        ],
        "blackout_ms": 812.346,
        "blackouts": {"times": 1, "longest_ms": 812.346},
    }


def test_list(cli: Cli) -> None:
    document = checked(cli("list", "--output=json"))
    assert set(document) == {"schema", "command", "exit_code", "domains"}
    web, _, db, spare = document["domains"]
    assert web == {
        "name": "web",
        "uuid": WEB.uuid,
        "id": 3,
        "state": "running",
        "running": "10.0.2 (Debian 1:10.0.2+ds-2+deb13u1)",
        "installed": "10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)",
        "outdated": True,
        "prepared": True,
        "ready": "transfer",
        "findings": [],
    }
    assert [row["prepared"] for row in document["domains"]] == [True, False, True, False]
    assert [finding["code"] for finding in db["findings"]] == ["ram-not-shared"]
    assert (spare["id"], spare["running"], spare["outdated"], spare["ready"]) == (None, None, None, None)


def test_mode_reboot(cli: Cli) -> None:
    row = DomainRow("web", WEB.uuid, 3, "running", "10.0.2", "10.0.13", True, Mode.REBOOT)
    listed = checked(cli("list", "-o", "json", backend=FakeBackend(ListReport((row,)))))
    assert listed["domains"][0]["ready"] == "reboot"
    moved = FakeBackend(result=one(replace(WEB, mode=Mode.REBOOT)))
    upgraded = checked(cli("upgrade", "web", "--mode", "reboot", "-y", "-o", "json", backend=moved))
    assert upgraded["domains"][0]["mode"] == "reboot"
    planned = FakeBackend(planned=PlanReport((replace(PLANNED.domains[0], mode=Mode.REBOOT),)))
    assert checked(cli("plan", "web", "-o", "json", backend=planned))["domains"][0]["mode"] == "reboot"


@pytest.mark.parametrize("report", [MAIL, DB, LAB], ids=["current", "blocked", "rolled-back"])
def test_every_result(cli: Cli, report: Any) -> None:
    result = UpgradeReport((report,), ExitCode.SOME, notes=("a note",))
    document = checked(cli("upgrade", "--all", "-y", "-o", "json", backend=FakeBackend(result=result)))
    assert document["domains"][0]["result"] == report.result.value
    assert document["blackout_ms"] is None
    assert document["notes"] == ["a note"]


def test_control_characters_are_the_readers_affair(cli: Cli) -> None:
    name = 'we\x1b[31mb "[bold]" \u202e\udc80'
    report = UpgradeReport((MAIL.__class__(name, MAIL.uuid, Result.CURRENT),), ExitCode.DONE)
    outcome = cli("upgrade", "--all", "-y", "-ojson", backend=FakeBackend(result=report))
    assert outcome.out.isascii()
    assert checked(outcome)["domains"][0]["name"] == name


@pytest.mark.parametrize(
    ("args", "command"),
    [
        (("-o", "json"), None),
        (("upgrade", "-o", "json"), "upgrade"),
        (("upgrade", "web", "--all", "-ojson"), "upgrade"),
        (("upgrade", "--output=json", "web"), "upgrade"),
        (("upgrade", "web", "--nope", "-yo", "json"), "upgrade"),
        (("upgrade", "web", "-o", "json", "--nope"), "upgrade"),
        (("upgrade", "web", "--parallel", "x", "-yojson"), "upgrade"),
        (("upgrade", "web", "-o", "yaml", "-o", "json", "--parallel"), "upgrade"),
        (("-c", "upgrade", "list", "--nope", "--output", "json"), "list"),
        (("-q", "-v", "list", "-o", "json"), "list"),
        (("save", "-yo", "json"), "save"),
        (("save", "web", "--mode", "reboot", "-ojson"), "save"),
        (("restore", "--discard", "--emulator", "save", "--all", "-o", "json"), "restore"),
        (("lisp", "-o", "json"), None),
        (("-o", "json", "list"), None),
        (("--nope", "list", "-o", "json"), None),
        (("-cqemu:///foo", "hooks", "nope", "-ojson"), "hooks"),
        (("list", "-o", "json", "-o"), "list"),
    ],
)
def test_usage_errors(cli: Cli, args: tuple[str, ...], command: str | None) -> None:
    outcome = cli(*args)
    document = checked(outcome)
    assert outcome.code == ExitCode.USAGE
    assert document["command"] == command
    assert document["error"]["code"] == "usage"
    assert outcome.err.startswith(f"virtcpr: error: {document['error']['message']}\n")


@pytest.mark.parametrize("args", [("list", "--nope"), ("upgrade", "--", "-o", "json", "--all"), ("-o", "json", "list")])
def test_json_only_where_it_was_asked_for(cli: Cli, args: tuple[str, ...]) -> None:
    outcome = cli(*args)
    assert outcome.code == ExitCode.USAGE
    assert ("{" in outcome.out) is (args[0] == "-o")


@pytest.mark.parametrize(
    "args", [("list",), ("upgrade", "--all", "--yes"), ("save", "--all", "--yes"), ("restore", "--all")]
)
@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (HostError("no libvirt", hint="start it"), "host", 1),
        (Unsettled("lost"), "unsettled", 6),
        (KeyboardInterrupt(), "interrupted", 130),
        (ValueError("x"), "internal", 1),
    ],
)
def test_errors(cli: Cli, args: tuple[str, ...], error: BaseException, code: str, exit_code: int) -> None:
    outcome = cli(*args, "-o", "json", backend=FakeBackend(opening=raises(error)))
    document = checked(outcome)
    assert outcome.code == exit_code
    assert document["domains"] == []
    assert document["error"]["code"] == code
    assert document["error"]["hint"] == getattr(error, "hint", document["error"]["hint"])
    assert document.get("blackout_ms", "none") == (None if args[0] in ("upgrade", "restore") else "none")


def test_progress_and_log_stay_off_stdout(cli: Cli) -> None:
    outcome = cli("-vv", "upgrade", "web", "-y", "-o", "json", backend=FakeBackend(result=one()))
    checked(outcome)
    assert "virtcpr: web: hand-over\n" in outcome.err


def test_json_without_yes_or_terminal_is_an_error(cli: Cli) -> None:
    backend = FakeBackend()
    document = checked(cli("upgrade", "web", "-o", "json", backend=backend))
    assert document["error"]["message"] == "there is no terminal to ask on"
    assert backend.runs == 0
