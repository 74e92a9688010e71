"""``check``, ``plan`` and ``prepare``: what they ask for, what they answer, and with which exit code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.contract.conftest import Cli
from tests.contract.fake import FakeBackend
from tests.contract.reports import CHECKED, DIFF, EXEC_ONLY, PLANNED, PREPARED
from tests.contract.schema import checked
from virtcpr.model import CheckReport, ExitCode, Mode, PlanReport, PrepareReport, Request

Golden = Callable[[str, str], None]


def test_check(cli: Cli, golden: Golden) -> None:
    backend = FakeBackend()
    outcome = cli("-c", "qemu:///system", "check", "web", "db", backend=backend)
    golden("check.txt", outcome.out)
    assert outcome.code == 4
    assert backend.requests == [Request(("web", "db"), uri="qemu:///system")]


def test_check_of_every_mode(cli: Cli, golden: Golden) -> None:
    golden("check-verbose.txt", cli("-v", "check", "--all").out)


def test_check_without_a_mode_is_about_the_mode_that_upgrade_would_use(cli: Cli) -> None:
    """db is ready for live and reboot, which must be asked for."""
    web, db = CHECKED.domains
    fit = CheckReport((web, replace(db, ready=(Mode.LIVE, Mode.REBOOT))), ExitCode.DONE)
    outcome = cli("check", "--all", backend=FakeBackend(checked=fit))
    assert (
        "2 domains: 1 ready for transfer, 1 blocked (1 ready for live, and for transfer after that; 1 ready for reboot)"
        in outcome.out
    )
    assert "ram-not-shared (transfer, exec)" in outcome.out


def test_domains_that_do_not_run_are_counted_apart(cli: Cli) -> None:
    web, db = CHECKED.domains
    off = replace(db, state="shut off", running=None)
    outcome = cli("check", "--all", backend=FakeBackend(checked=replace(CHECKED, domains=(web, off))))
    assert "2 domains: 1 ready for transfer, 0 blocked, 1 not running\n" in outcome.out


def test_brackets_are_for_what_this_version_does_not_have(cli: Cli) -> None:
    row = cli("check", "--all").out.splitlines()[1].split()
    assert row[-4:] == ["ready", "ready", "ready", "(blocked)"]


def test_help_of_check_says_what_the_exit_code_means(cli: Cli) -> None:
    said = " ".join(cli("check", "--help").out.split())
    assert "blocked in the mode that --mode names; auto is the mode that upgrade would use, transfer." in said


def test_check_of_one_mode(cli: Cli) -> None:
    backend = FakeBackend(checked=replace(CHECKED, mode=Mode.EXEC))
    outcome = cli("check", "--all", "--mode", "exec", backend=backend)
    assert backend.requests == [Request(every=True, mode=Mode.EXEC)]
    assert outcome.out.count(EXEC_ONLY.message) == 2
    assert "2 domains: 0 ready for exec, 2 blocked" in outcome.out


@pytest.mark.parametrize("source", ["-", "/tmp/web.xml"])
def test_check_of_a_document(cli: Cli, source: str) -> None:
    backend = FakeBackend(checked=replace(CHECKED, offline=True))
    outcome = cli("check", "--xml", source, backend=backend)
    assert backend.documents == [(source, None)]
    assert "from the XML alone" in outcome.out


def test_check_in_json(cli: Cli) -> None:
    document = checked(cli("check", "--all", "-o", "json"))
    assert document["exit_code"] == 4
    web, db = document["domains"]
    assert web["modes"] == {"transfer": "ready", "live": "ready", "reboot": "ready", "exec": "blocked"}
    assert db["findings"][0]["modes"] == ["transfer", "exec"]


def test_plan(cli: Cli, golden: Golden) -> None:
    backend = FakeBackend()
    outcome = cli("plan", "--all", "--emulator", "/opt/qemu", backend=backend)
    golden("plan.txt", outcome.out)
    assert outcome.code == 0
    assert backend.requests == [Request(every=True, emulator="/opt/qemu")]


@pytest.mark.parametrize(("mode", "asked"), [("auto", None), ("transfer", Mode.TRANSFER), ("reboot", Mode.REBOOT)])
def test_plan_of_one_mode(cli: Cli, mode: str, asked: Mode | None) -> None:
    planned = PlanReport((replace(WEB, mode=asked),))
    backend = FakeBackend(planned=planned)
    outcome = cli("plan", "web", "--mode", mode, backend=backend)
    assert backend.requests == [Request(("web",), mode=asked)]
    assert outcome.out.splitlines()[1].split()[-4] == (asked.value if asked else "-")


def test_plan_in_json(cli: Cli) -> None:
    web, mail, db = checked(cli("plan", "--all", "-o", "json"))["domains"]
    assert [one["action"] for one in (web, mail, db)] == ["move", "current", "blocked"]
    assert web["steps"][2] == {"name": "commit", "describe": "let new QEMU run", "side": "at", "undo": None}
    assert web["forecast_pause_ms"] == 41.25
    assert web["carried"] == ["standard output", "queue of vnet0"]


WEB, MAIL, DB = PLANNED.domains


@pytest.mark.parametrize(
    ("domains", "code"),
    [((), 0), ((MAIL,), 0), ((MAIL, DB), 4), ((WEB, MAIL, DB), 10), ((WEB,), 10)],
    ids=["none", "current", "blocked", "all", "move"],
)
def test_detailed_exit_code(cli: Cli, domains: tuple[object, ...], code: int) -> None:
    backend = FakeBackend(planned=PlanReport(domains))  # type: ignore[arg-type]
    assert cli("plan", "--all", backend=backend).code == 0
    assert cli("plan", "--all", "--detailed-exitcode", backend=backend).code == code
    assert checked(cli("plan", "--all", "--detailed-exitcode", "-ojson", backend=backend))["exit_code"] == code


def test_prepare(cli: Cli, golden: Golden) -> None:
    backend = FakeBackend()
    outcome = cli("prepare", "--all", "-y", backend=backend)
    golden("prepare.txt", outcome.out)
    assert outcome.code == 3
    assert backend.requests == [Request(every=True, mode=Mode.TRANSFER)]
    assert backend.undone == [False]
    assert backend.preparations[0].runs == 1


def test_prepare_by_another_template(cli: Cli) -> None:
    backend = FakeBackend()
    cli("prepare", "web", "-y", "--mode", "reboot", "--template", "reboot-dax", backend=backend)
    cli("prepare", "--xml", "-", "--mode", "reboot", backend=backend)
    assert backend.requests == [Request(("web",), mode=Mode.REBOOT)]
    assert backend.documents == [("-", Mode.REBOOT)]
    assert backend.templates == ["reboot-dax", None]


def test_dry_run(cli: Cli, golden: Golden) -> None:
    backend = FakeBackend()
    outcome = cli("prepare", "web", "--dry-run", "--undo", backend=backend)
    golden("prepare-dry-run.txt", outcome.out)
    assert backend.undone == [True]
    assert backend.preparations[0].runs == 0


@pytest.mark.parametrize(("answer", "runs"), [("y\n", 1), ("n\n", 0), ("\n", 0), ("", 0)])
def test_the_change_is_shown_before_the_question(cli: Cli, answer: str, runs: int) -> None:
    backend = FakeBackend()
    outcome = cli("--no-color", "prepare", "web", backend=backend, typed=answer)
    assert "+  <memoryBacking>" in outcome.err
    assert outcome.err.endswith("Change 1 domain now? [y/N] ")
    assert backend.preparations[0].runs == runs
    assert backend.closed == 1
    assert ("nothing done" in outcome.out) == (not runs)


def test_prepare_live_makes_the_running_ones_ready_at_once(cli: Cli) -> None:
    """It asks about both, and shows both results."""
    backend = FakeBackend()
    outcome = cli("prepare", "--all", "--live", backend=backend, typed="y\ny\n")
    questions = [line for line in outcome.err.splitlines() if "[y/N]" in line]
    assert "Change 1 domain now? [y/N] " in outcome.err
    assert "Move 1 domain now? " in outcome.err
    assert len(questions) == 2, questions
    assert "it takes effect when" not in outcome.out
    assert [line.split()[:2] for line in outcome.out.splitlines() if line.startswith("web ")] == [
        ["web", "prepared"],
        ["web", "upgraded"],
    ]
    document = checked(cli("prepare", "--all", "--live", "--yes", "-o", "json"))
    assert [domain["result"] for domain in document["moves"]["domains"]] == ["upgraded"]


@pytest.mark.parametrize("other", [("--undo",), ("--dry-run",), ("--xml", "-")])
def test_prepare_live_is_for_running_domains_alone(cli: Cli, other: tuple[str, ...]) -> None:
    backend = FakeBackend()
    outcome = cli("prepare", *(() if "--xml" in other else ("web",)), "--live", *other, backend=backend)
    assert (outcome.code, backend.requests) == (ExitCode.USAGE, [])
    assert "--live is for domains that are to be changed now" in outcome.err
    assert "virtcpr plan --mode live --force DOMAIN" in outcome.err


def test_prepare_live_without_a_move(cli: Cli) -> None:
    """Who doesn't want the pause has the XML prepared all the same."""
    backend = FakeBackend()
    outcome = cli("prepare", "--all", "--live", "--mode", "reboot", backend=backend, typed="y\nn\n")
    assert [request.mode for request in backend.requests[:2]] == [Mode.TRANSFER, Mode.REBOOT]
    assert "Move 1 domain now? " in outcome.err
    assert (backend.preparations[0].runs, backend.upgrades[0].runs) == (1, 0)
    assert "no running domain was moved" in outcome.out


def test_what_timeout_is_for(cli: Cli) -> None:
    backend = FakeBackend()
    assert cli("upgrade", "web", "--yes", "--mode", "live", "--timeout", "90", backend=backend).code == 0
    assert [(request.mode, request.timeout_s) for request in backend.requests] == [(Mode.LIVE, 90)]
    for words in (("--timeout", "90"), ("--mode", "live", "--timeout", "0"), ("--mode", "live", "--timeout", "inf")):
        refused = cli("upgrade", "web", *words)
        assert (refused.code, "--timeout needs --mode live, and more than 0 seconds" in refused.err) == (2, True)


def test_the_diff_is_coloured_and_harmless(cli: Cli) -> None:
    shown = cli("prepare", "web", typed="n\n").err
    assert "\x1b[32m+  <memoryBacking>\x1b[0m" in shown
    assert "\x1b[31m -->" in DIFF
    assert "\x1b[31m -->" not in shown


def test_nobody_to_ask(cli: Cli) -> None:
    outcome = cli("prepare", "web")
    assert outcome.code == 2
    assert "--dry-run only shows" in outcome.err


def test_a_document_goes_to_stdout_as_it_is(cli: Cli) -> None:
    text = "<domain type='kvm'>\r\n  <name>ü</name></domain>\n\n<!-- end -->"
    prepared = PrepareReport((replace(PREPARED.domains[0], findings=()),), ExitCode.DONE, document=text)
    outcome = cli("prepare", "--xml", "-", backend=FakeBackend(prepared=prepared))
    assert (outcome.out, outcome.err, outcome.code) == (text, "", 0)
    assert checked(cli("prepare", "--xml", "-", "-o", "json", backend=FakeBackend(prepared=prepared)))["xml"] == text


def test_a_blocked_document_leaves_stdout_empty(cli: Cli) -> None:
    blocked = PrepareReport(PREPARED.domains[2:], ExitCode.BLOCKED)
    outcome = cli("prepare", "--xml", "-", backend=FakeBackend(prepared=blocked))
    assert (outcome.out, outcome.code) == ("", 4)
    assert "ram-not-shared" in outcome.err


def test_prepare_in_json(cli: Cli) -> None:
    document = checked(cli("prepare", "--all", "--dry-run", "-o", "json"))
    assert document["dry_run"] is True
    assert document["domains"][0]["diff"] == DIFF


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("check",), "which domains? Name them, or give --all"),
        (("plan",), "which domains?"),
        (("prepare", "web", "--all"), "name domains or give --all, not both"),
        (("check", "web", "--xml", "-"), "--xml can't be combined"),
        (("prepare", "--all", "--xml", "-"), "--xml can't be combined"),
        (("check", "web", "--mode", "warp"), "'warp' is not one of"),
        (("prepare", "web", "--mode", "live"), "'live' is not"),
        (("prepare", "web", "--undo", "--template", "x"), "--undo takes back the changes of any template"),
    ],
    ids=" ".join,
)
def test_what_does_not_go_together(cli: Cli, args: tuple[str, ...], said: str) -> None:
    outcome = cli(*args)
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err
    assert f"virtcpr {args[0]} --help" in outcome.err


@pytest.mark.parametrize("command", ["check", "plan", "prepare"])
def test_json_as_it_is_written(cli: Cli, golden: Golden, command: str) -> None:
    options = ["--yes"] if command == "prepare" else []
    golden(f"{command}.json", cli(command, "--all", "-o", "json", *options).out)
