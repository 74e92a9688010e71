"""The linters, as tests: what they say is what the test says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.paths import ROOT

pytestmark = pytest.mark.lint


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "--output-format=concise", "."),
        ("mypy", "--no-error-summary"),
        ("codespell_lib", "."),
    ],
    ids=["ruff", "mypy", "codespell"],
)
def test_lint(command: tuple[str, ...]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode:
        pytest.fail(f"{' '.join(command)}:\n{result.stdout}", pytrace=False)
