"""Commands: what they ask the layers below for, what they ask the user, exit codes, error texts."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from itertools import product

import pytest

from tests.contract.conftest import Cli
from tests.contract.fake import FakeBackend, raises
from tests.contract.reports import DB, MAIL, one
from virtcpr import __version__
from virtcpr.errors import HostError, ParseError, QmpError, RolledBack, Unsettled, UsageError, VirtcprError
from virtcpr.model import ExitCode, UpgradeReport

NOTHING_TO_MOVE = UpgradeReport((MAIL, DB), ExitCode.BLOCKED)


def test_help_names_every_command(cli: Cli) -> None:
    outcome = cli("--help")
    assert outcome.code == 0
    assert outcome.err == ""
    assert {"list", "upgrade", "save", "restore"} <= set(outcome.out.split())


@pytest.mark.parametrize("command", ["list", "upgrade", "save", "restore"])
def test_help_of_a_command(cli: Cli, command: str) -> None:
    outcome = cli(command, "-h")
    assert outcome.code == 0
    assert f"Usage: virtcpr {command} " in outcome.out
    assert "--output" in outcome.out


def test_version(cli: Cli) -> None:
    assert cli("--version").out == f"virtcpr {__version__}\n"


def test_module_runs_and_help_is_light() -> None:
    """--help loads nothing that only the real work needs."""
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "virtcpr", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines() if "|" in line}
    assert "virtcpr.cli.app" in loaded
    heavy = (
        "libvirt",
        "lxml",
        "asyncio",
        "qemu",
        "rich.console",
        "virtcpr.actions",
        "virtcpr.host",
        "virtcpr.domain",
    )
    assert [name for name, top in product(loaded, heavy) if name == top or name.startswith(f"{top}.")] == []


def test_list_passes_on_uri_and_domains(cli: Cli) -> None:
    backend = FakeBackend()
    assert cli("-c", "qemu:///session", "list", "web", "17", backend=backend).code == 0
    assert cli("list", backend=backend).code == 0
    assert backend.asked == [("qemu:///session", ("web", "17")), (None, ())]


@pytest.mark.parametrize("code", list(ExitCode))
def test_exit_code_is_the_reports(cli: Cli, code: ExitCode) -> None:
    outcome = cli("upgrade", "--all", "--yes", backend=FakeBackend(result=one(code=code)))
    assert outcome.code == code


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        ((), "Missing command.", "try: virtcpr --help"),
        (("upgrade",), "which domains? Name them, or give --all", "try: virtcpr upgrade --help"),
        (("upgrade", "web", "--all"), "name domains or give --all, not both", "try: virtcpr upgrade --help"),
        (
            ("upgrade", "web", "--parallel", "0"),
            "--parallel must be at least 1, not 0",
            "try: virtcpr upgrade --help",
        ),
        (
            ("upgrade", "web", "--suspend-guest"),
            "--suspend-guest needs --mode reboot or --fallback reboot",
            "try: virtcpr upgrade --help",
        ),
        (
            ("upgrade", "web", "--suspend-guest", "--mode", "transfer"),
            "--suspend-guest needs --mode reboot or --fallback reboot",
            "try: virtcpr upgrade --help",
        ),
        (
            ("upgrade", "web", "--fallback", "reboot", "--mode", "reboot"),
            "--fallback reboot is for domains that mode transfer can't move, not for --mode reboot",
            "try: virtcpr upgrade --help",
        ),
        (("upgrade", "--all", "--try"), "--try is for one domain at a time: name it", "try: virtcpr upgrade --help"),
        (("plan", "web", "db", "--try"), "--try is for one domain at a time: name it", "try: virtcpr plan --help"),
        (("upgrade", "web", "--mode", "exec"), "Invalid value for '--mode': ", "try: virtcpr upgrade --help"),
        (("plan", "web", "--mode", "exec"), "Invalid value for '--mode': ", "try: virtcpr plan --help"),
        (("save",), "which domains? Name them, or give --all", "try: virtcpr save --help"),
        (("save", "web", "--all"), "name domains or give --all, not both", "try: virtcpr save --help"),
        (("restore",), "which domains? Name them, or give --all", "try: virtcpr restore --help"),
        (("restore", "web", "--all"), "name domains or give --all, not both", "try: virtcpr restore --help"),
        (
            ("restore", "web", "--discard", "--emulator", "/opt/qemu"),
            "--discard starts no domain: leave out --emulator",
            "try: virtcpr restore --help",
        ),
        (
            ("restore", "web", "--discard", "--disks-unchanged"),
            "--discard starts no domain: leave out --disks-unchanged",
            "try: virtcpr restore --help",
        ),
        (("-q", "-v", "list"), "--quiet and --verbose exclude each other", ""),
        (("list", "--nope"), "No such option: --nope", "try: virtcpr list --help"),
        (("frobnicate",), "No such command 'frobnicate'.", "try: virtcpr --help"),
        (("list", "-v", "-q"), "--quiet and --verbose exclude each other", ""),
        (
            ("upgrade", "web", "-o", "yaml"),
            "Invalid value for '-o' / '--output': ",
            "try: virtcpr upgrade --help",
        ),
        (
            ("upgrade", "web", "--parallel", "x"),
            "Invalid value for '--parallel': ",
            "try: virtcpr upgrade --help",
        ),
    ],
)
def test_usage_errors(cli: Cli, args: tuple[str, ...], message: str, hint: str) -> None:
    backend = FakeBackend()
    outcome = cli(*args, backend=backend)
    assert outcome.code == ExitCode.USAGE
    assert outcome.out == ""
    assert outcome.err.startswith(f"virtcpr: error: {message}")
    assert outcome.err.endswith(f"\n  {hint}\n" if hint else "\n")
    assert backend.requests == []


ERRORS = [
    (UsageError("no domain 'wbe'", hint="virtcpr list shows them all"), 2),
    (HostError("only root can move guests", hint="run it with sudo"), 1),
    (QmpError("web: QEMU's monitor doesn't answer"), 1),
    (ParseError("web: the status file isn't XML"), 1),
    (RolledBack("web: could not be moved; it runs on in old QEMU"), 5),
    (Unsettled("web: not known which QEMU runs it", hint="virtcpr recover"), 6),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=[error.code for error, _ in ERRORS])
@pytest.mark.parametrize(
    "args",
    [("list",), ("upgrade", "--all", "-y"), ("save", "--all", "-y"), ("restore", "--all")],
    ids=["list", "upgrade", "save", "restore"],
)
def test_errors(cli: Cli, error: VirtcprError, code: int, args: tuple[str, ...]) -> None:
    outcome = cli(*args, backend=FakeBackend(opening=raises(error)))
    assert outcome.code == code
    assert outcome.out == ""
    hint = f"  {error.hint}\n" if error.hint else ""
    assert outcome.err == f"virtcpr: error: {error.message}\n{hint}"


def test_a_message_of_several_lines_is_indented(cli: Cli) -> None:
    error = HostError("QEMU ended:\n\tno such \x1b[31mdevice", hint="look\nthere")
    outcome = cli("list", backend=FakeBackend(opening=raises(error)))
    assert outcome.err.splitlines() == [
        "virtcpr: error: QEMU ended:",
        "          no such \\x1b[31mdevice",
        "  look",
        "  there",
    ]


def test_a_defect_is_told_without_a_traceback(cli: Cli) -> None:
    backend = FakeBackend(opening=raises(KeyError("pid")))
    outcome = cli("list", backend=backend)
    assert outcome.code == ExitCode.FAILED
    assert outcome.err == (
        "virtcpr: error: internal error: KeyError: 'pid'\n"
        "  this is a defect of virtcpr: please report it with what --debug shows\n"
    )
    assert "Traceback" in cli("--debug", "list", backend=backend).err


@pytest.mark.parametrize(("command", "what"), [("upgrade", "swap"), ("save", "save"), ("restore", "restore")])
def test_a_defect_during_the_swap_leaves_the_state_unknown(cli: Cli, command: str, what: str) -> None:
    outcome = cli(command, "web", "-y", backend=FakeBackend(during=raises(ZeroDivisionError("oh"))))
    assert outcome.code == ExitCode.UNKNOWN
    assert f"internal error during the {what}: ZeroDivisionError: oh" in outcome.err
    assert "/run/virtcpr/journal" in outcome.err


@pytest.mark.parametrize("command", ["upgrade", "save", "restore"])
@pytest.mark.parametrize("where", ["opening", "during"])
def test_an_interrupt_ends_without_a_traceback(cli: Cli, where: str, command: str) -> None:
    backend = FakeBackend()
    setattr(backend, where, raises(KeyboardInterrupt()))
    outcome = cli(command, "web", "-y", backend=backend)
    assert outcome.code == 130
    assert "virtcpr: error: interrupted\n" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ((), "virtcpr: WARNING: w\n"),
        (("-q",), ""),
        (("-v",), "virtcpr: WARNING: w\nvirtcpr: INFO: i \\x1b\n"),
        (("-vv",), "virtcpr: T WARNING: w\nvirtcpr: T INFO: i \\x1b\nvirtcpr: T DEBUG: d\n"),
    ],
)
def test_verbosity(cli: Cli, options: tuple[str, ...], shown: str) -> None:
    def log() -> None:
        logger = logging.getLogger("virtcpr.test")
        logger.warning("w")
        logger.info("i \x1b")
        logger.debug("d")
        logging.getLogger("qemu.qmp").error("its own affair")

    written = cli(*options, "list", backend=FakeBackend(opening=log)).err
    assert re.sub(r"\d\d:\d\d:\d\d\.\d{3} ", "T ", written) == shown


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("upgrade", "web", "-y"), 0),
        (("prepare", "web", "--live", "--yes"), 3),
        (("save", "--all", "-y"), 3),
        (("restore", "--all"), 3),
        (("recover", "--all"), 6),
    ],
)
def test_what_changes_the_answer_refreshes_prometheus(cli: Cli, args: tuple[str, ...], code: int) -> None:
    backend = FakeBackend()
    assert cli("-c", "qemu:///system", *args, backend=backend).code == code
    assert backend.refreshed == [("qemu:///system", code)]


@pytest.mark.parametrize(
    "args", [("upgrade", "web"), ("recover", "--all", "--dry-run"), ("recover", "--all", "--from-hook")]
)
def test_what_changes_nothing_leaves_prometheus_alone(cli: Cli, args: tuple[str, ...]) -> None:
    """In libvirt's hook its daemon doesn't answer yet."""
    backend = FakeBackend()
    cli(*args, backend=backend, typed="n\n")
    assert backend.refreshed == []


def test_global_options_after_the_command(cli: Cli) -> None:
    assert cli("list", "-v").out == cli("-v", "list").out != cli("list").out
    assert cli("upgrade", "web", "-y", "-q").err == ""
    assert cli("check", "web", "--debug", backend=FakeBackend(opening=raises(HostError("deaf")))).err.startswith(
        "Trace"
    )
    assert "--verbose" not in cli("list", "--help").out, "help of the program has it"


def test_did_you_mean(cli: Cli) -> None:
    outcome = cli("upgrad", "web")
    assert outcome.code == 2
    assert "did you mean" in outcome.err.lower()
    assert "upgrade" in outcome.err.replace("upgrad'", "")
