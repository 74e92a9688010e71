"""``upgrade``: what it asks the layers below for, and what it asks the user before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.conftest import Cli
from tests.contract.fake import FakeBackend
from tests.contract.reports import DB, LAB, MAIL, UUID, WEB
from virtcpr.cli.options import AvailableMode, UpgradeMode
from virtcpr.model import AVAILABLE, Blackouts, ExitCode, Mode, Request, UpgradeReport

NOTHING_TO_MOVE = UpgradeReport((MAIL, DB), ExitCode.BLOCKED)


def test_upgrade_passes_on_the_request(cli: Cli) -> None:
    backend = FakeBackend()
    cli("upgrade", "web", UUID.format(1), "-y", backend=backend)
    cli(
        "-c",
        "qemu:///system",
        "upgrade",
        "--all",
        "--emulator",
        "/opt/qemu",
        "--parallel",
        "2",
        "--yes",
        backend=backend,
    )
    assert backend.requests == [
        Request(("web", UUID.format(1))),
        Request((), True, "qemu:///system", "/opt/qemu", 2),
    ]
    assert (backend.runs, backend.closed) == (2, 2)


def test_upgrade_passes_on_mode_reboot(cli: Cli) -> None:
    backend = FakeBackend()
    cli("upgrade", "web", "--mode", "reboot", "-y", backend=backend)
    cli("upgrade", "web", "--mode", "reboot", "--suspend-guest", "-y", backend=backend)
    cli("upgrade", "web", "--mode", "transfer", "--force", "-y", backend=backend)
    cli("upgrade", "web", "--try", "-y", backend=backend)
    cli("upgrade", "web", "--fallback", "reboot", "--suspend-guest", "-y", backend=backend)
    assert backend.requests == [
        Request(("web",), mode=Mode.REBOOT),
        Request(("web",), mode=Mode.REBOOT, suspend=True),
        Request(("web",), mode=Mode.TRANSFER, force=True),
        Request(("web",), trying=True),
        Request(("web",), fallback=Mode.REBOOT, suspend=True),
    ]


PRICE = "ended and started again in place, paused for a second or more. libvirt's daemon is away meanwhile. [y/N] "


@pytest.mark.parametrize(
    ("modes", "options", "question"),
    [
        ((Mode.REBOOT, Mode.REBOOT), ("--mode", "reboot"), f"Move 2 domains by mode reboot now? Each is {PRICE}"),
        ((None,), ("--mode", "reboot"), f"Move 1 domain by mode reboot now? Each is {PRICE}"),
        ((Mode.REBOOT,), (), f"Move 1 domain by mode reboot now? Each is {PRICE}"),
        ((Mode.TRANSFER, Mode.REBOOT), (), f"Move 2 domains now, 1 by mode reboot? Each of these is {PRICE}"),
        ((Mode.TRANSFER, None), (), "Move 2 domains now? libvirt's daemon is away meanwhile. [y/N] "),
    ],
)
def test_the_question_says_whose_qemu_is_ended(
    cli: Cli, modes: tuple[Mode | None, ...], options: tuple[str, ...], question: str
) -> None:
    domains = (*(replace(WEB, mode=mode) for mode in modes), replace(DB, mode=Mode.REBOOT))
    backend = FakeBackend(result=UpgradeReport(domains, ExitCode.SOME))
    outcome = cli("--no-color", "upgrade", "--all", *options, backend=backend, typed="n\n")
    assert outcome.err.splitlines()[-1] == question.rstrip("\n")
    assert outcome.err.count("move by reboot") == modes.count(Mode.REBOOT)
    assert backend.runs == 0


def test_help_of_mode_reboot(cli: Cli) -> None:
    said = " ".join(cli("upgrade", "--help").out.split())
    assert "auto|transfer|parked|live|reboot" in said
    assert "guests suspend themselves to RAM before, and are woken up after; needs the guest agent" in said
    assert "With --mode reboot each is ended and started again in place" in said
    assert "auto|transfer|parked|live|reboot" in cli("plan", "--help").out


def test_the_modes_that_can_be_asked_for_are_those_there_are() -> None:
    assert [choice.mode for choice in AvailableMode] == [None, *AVAILABLE]
    assert [choice.mode for choice in UpgradeMode if choice is not UpgradeMode.PARKED] == [None, *AVAILABLE]
    assert UpgradeMode.PARKED.mode is Mode.TRANSFER


@pytest.mark.parametrize("answer", ["y\n", "Yes\n", " YES \n"])
def test_yes_moves(cli: Cli, answer: str) -> None:
    backend = FakeBackend(result=UpgradeReport((WEB, LAB, DB, MAIL), ExitCode.SOME, 800.0))
    outcome = cli("upgrade", "--all", backend=backend, typed=answer)
    assert outcome.code == ExitCode.SOME
    assert "Move 2 domains now? libvirt's daemon is away meanwhile. [y/N] " in outcome.err
    assert backend.runs == 1


@pytest.mark.parametrize(
    ("forecasts", "blackouts", "said"),
    [
        (
            (21.5, 35.2),
            Blackouts(1, 2100),
            "Each is paused for about 35 ms at most. libvirt's daemon is away for about 2.1 s.",
        ),
        (
            (21.5, None),
            Blackouts(3, 4800),
            "Each is paused for about 22 ms at most (no forecast for 1 of them). "
            "libvirt's daemon is away 3 times, for about 4.8 s at most.",
        ),
        (
            (1200.0, 2300.0),
            None,
            "Each is ended and started again in place, paused for a second or more. "
            "Each is paused for about 2.3 s at most. libvirt's daemon is away meanwhile.",
        ),
    ],
)
def test_the_question_says_for_how_long(
    cli: Cli, forecasts: tuple[float | None, ...], blackouts: Blackouts | None, said: str
) -> None:
    mode, by = (Mode.TRANSFER, "") if blackouts else (Mode.REBOOT, " by mode reboot")
    domains = (replace(WEB, mode=mode),) * 2
    backend = FakeBackend(result=UpgradeReport(domains, ExitCode.DONE), forecast=blackouts, pauses=forecasts)
    outcome = cli("upgrade", "--all", backend=backend, typed="n\n")
    assert f"Move 2 domains{by} now? {said} [y/N] " in outcome.err


def test_limits_are_passed_on(cli: Cli) -> None:
    backend = FakeBackend()
    cli("upgrade", "--all", "--max-pause", "50", "--max-blackout", "2.5", "-y", backend=backend)
    cli("plan", "--all", "--max-pause", "50", "--max-blackout", "2.5", backend=backend)
    assert backend.requests == [Request(every=True, max_pause_ms=50, max_blackout_s=2.5)] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--max-pause", "0"), "--max-pause must be more than 0, not 0"),
        (("--max-blackout", "-1.5"), "--max-blackout must be more than 0, not -1.5"),
        (("--max-blackout", "nan"), "--max-blackout must be more than 0, not nan"),
        (
            ("--mode", "reboot", "--max-blackout", "3"),
            "--max-blackout is for mode transfer: in mode reboot nothing limits a blackout",
        ),
    ],
)
@pytest.mark.parametrize("command", ["upgrade", "plan"])
def test_limits_that_nothing_keeps_are_refused(cli: Cli, command: str, options: tuple[str, ...], message: str) -> None:
    backend = FakeBackend()
    outcome = cli(command, "--all", *options, backend=backend)
    assert outcome.code == ExitCode.USAGE
    assert message in outcome.err
    assert backend.requests == []


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "yeah no\n"])
@pytest.mark.parametrize("output", ["table", "json"])
def test_anything_else_touches_nothing(cli: Cli, answer: str, output: str) -> None:
    backend = FakeBackend()
    outcome = cli("upgrade", "web", "-o", output, backend=backend, typed=answer)
    assert outcome.code == 0
    assert "Move 1 domain now? libvirt's daemon is away meanwhile. [y/N] " in outcome.err
    assert (backend.runs, backend.closed) == (0, 1)
    if output == "json":
        assert outcome.json["notes"] == ["nothing done"]
    else:
        assert outcome.out == "nothing done\n"


def test_the_question_shows_what_will_be_done(cli: Cli) -> None:
    outcome = cli("upgrade", "--all", backend=FakeBackend(result=UpgradeReport((WEB, DB), ExitCode.SOME)), typed="")
    assert "move" in outcome.err
    assert "blocker" in outcome.err
    assert outcome.err.index("DOMAIN") < outcome.err.index("Move 1 domain now?")


@pytest.mark.parametrize("typed", [None, "n\n"])
def test_nothing_to_move_asks_nothing(cli: Cli, typed: str | None) -> None:
    backend = FakeBackend(result=NOTHING_TO_MOVE)
    outcome = cli("upgrade", "--all", backend=backend, typed=typed)
    assert outcome.code == ExitCode.BLOCKED
    assert "[y/N]" not in outcome.err
    assert backend.runs == 1


def test_without_a_terminal_yes_is_needed(cli: Cli) -> None:
    backend = FakeBackend()
    outcome = cli("upgrade", "web", backend=backend)
    assert outcome.code == ExitCode.USAGE
    assert outcome.err == ("virtcpr: error: there is no terminal to ask on\n  --yes goes ahead without asking\n")
    assert (backend.runs, backend.closed) == (0, 1)


def test_no_running_domains(cli: Cli) -> None:
    outcome = cli("upgrade", "--all", backend=FakeBackend(result=UpgradeReport((), ExitCode.DONE)))
    assert (outcome.code, outcome.out) == (0, "no running domains\n")


def test_the_question_says_that_libvirts_daemon_is_away(cli: Cli) -> None:
    asked = cli("upgrade", "web", typed="n\n").err
    assert "Move 1 domain now? libvirt's daemon is away meanwhile." in asked
