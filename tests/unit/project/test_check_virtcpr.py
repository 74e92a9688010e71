"""The plugin for monitoring, with a virtcpr that answers as it is told."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT

PLUGIN = ROOT / "packages/monitoring/check_virtcpr"
Check = Callable[..., tuple[int, str]]


def domain(name: str, outdated: bool | None, number: int | None = 1) -> dict[str, Any]:
    return {"name": name, "uuid": name, "id": number, "outdated": outdated}


@pytest.fixture
def check(tmp_path: Path) -> Check:
    def run(*arguments: str, listed: Any = (), pending: Any = (), script: str | None = None) -> tuple[int, str]:
        for name, domains in (("list", listed), ("recover", pending)):
            document = {"domains": list(domains)} if not isinstance(domains, dict) else domains
            (tmp_path / name).write_text(json.dumps(document))
        program = tmp_path / "virtcpr"
        program.write_text(script or f'#!/bin/sh\nwhile [ "$1" = -c ]; do shift 2; done\ncat {tmp_path}/$1\n')
        program.chmod(0o755)
        done = subprocess.run(
            [PLUGIN, "--virtcpr", str(program), *arguments], capture_output=True, text=True, check=False
        )
        assert done.stderr == ""
        return done.returncode, done.stdout.rstrip("\n")

    return run


CURRENT, WEB, DB, OFF = domain("a", False), domain("web", True), domain("db", True), domain("off", None, None)


def test_all_is_well(check: Check) -> None:
    assert check(listed=(CURRENT, OFF)) == (
        0,
        "VIRTCPR OK - 0 of 1 running domains with an outdated QEMU | outdated=0;0;;0;1 unsettled=0;;0;0;",
    )


def test_outdated_guests_are_a_warning_and_named(check: Check) -> None:
    assert check(listed=(CURRENT, WEB, DB)) == (
        1,
        "VIRTCPR WARNING - 2 of 3 running domains with an outdated QEMU (db, web) | "
        "outdated=2;0;;0;3 unsettled=0;;0;0;",
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("-w", "2"), 0),
        (("-w", "1"), 1),
        (("-w", "5", "-c", "1"), 2),
        (("-w", "3:"), 1),
        (("-w", "@2:4"), 1),
        (("-w", "@3:4"), 0),
        (("-w", "~:5"), 0),
    ],
)
def test_thresholds_are_ranges(check: Check, arguments: tuple[str, ...], code: int) -> None:
    assert check(*arguments, listed=(WEB, DB))[0] == code


def test_only_some_are_named(check: Check) -> None:
    code, line = check(listed=[domain(f"w{number}", True) for number in range(9)])
    assert (code, "(w0, w1, w2, w3, w4, …)" in line) == (1, True)


def test_what_is_interrupted_is_critical(check: Check) -> None:
    waits = {"name": "kept", "uuid": "k", "settled": "waiting"}  # saved on purpose
    code, line = check(listed=(CURRENT,), pending=({"name": "web", "uuid": "w", "settled": "pending"}, waits))
    assert code == 2
    assert line.startswith("VIRTCPR CRITICAL - interrupted, run virtcpr recover --all (web); 0 of 1")
    assert line.endswith("unsettled=1;;0;0;")


def test_what_cannot_be_told_is_unknown(check: Check) -> None:
    code, line = check(listed=(CURRENT, domain("odd", None)))
    assert (code, "of 1 it can't be told (odd)" in line) == (3, True)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("#!/bin/sh\necho 'sudo: a password is required' >&2; exit 1\n", "a password is required"),
        ("#!/bin/sh\nexec sleep 60\n", "took more than 0.2 s"),
    ],
)
def test_no_answer_is_unknown(check: Check, script: str, words: str) -> None:
    code, line = check("-t", "0.2", script=script)
    assert (code, words in line) == (3, True), line


def test_virtcprs_own_error_is_unknown(check: Check) -> None:
    code, line = check(listed={"domains": [], "error": {"message": "only root can look into the system's domains"}})
    assert (code, line) == (3, "VIRTCPR UNKNOWN - only root can look into the system's domains")


@pytest.mark.parametrize("arguments", [("-w", "many"), ("--no-such-option",), ("-w", "@")])
def test_a_wrong_argument_is_unknown_not_critical(check: Check, arguments: tuple[str, ...]) -> None:
    code, line = check(*arguments)
    assert (code, line.startswith("VIRTCPR UNKNOWN - ")) == (3, True)


def test_a_users_own_libvirt(check: Check) -> None:
    """Nothing else than what runs there is looked at."""
    code, line = check("--connect", "qemu:///session", listed=(CURRENT,), pending={"error": {"message": "root"}})
    assert (code, "OK" in line) == (0, True)


def test_a_program_that_is_not_there() -> None:
    done = subprocess.run([PLUGIN, "--virtcpr", "/no/such"], capture_output=True, text=True, check=False)
    assert (done.returncode, "can't be run: No such file" in done.stdout) == (3, True)
