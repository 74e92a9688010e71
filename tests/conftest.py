"""What concerns all tests at once, in however many processes they run: what chaos saw, and labs that are left over."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.lab.support.chaos_matrix import PARKED, REBOOTS, SEEN
from tests.lab.support.machine import Lab, default_store

MATRICES = (SEEN, PARKED, REBOOTS)


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    """Labs of a run that was killed would take the CPUs of this one.

    Run in the background of a script, it ignores Ctrl-C, as would all that it starts; tests send that signal.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _end_labs(config)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _is_worker(session.config):
        output: dict[str, Any] = session.config.workeroutput  # type: ignore[attr-defined]
        output["chaos"] = [matrix.told() for matrix in MATRICES]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker has ended; one that crashed says nothing."""
    for matrix, told in zip(MATRICES, getattr(node, "workeroutput", {}).get("chaos", ()), strict=False):
        matrix.hear(told)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = [line for matrix in MATRICES for line in matrix.text()]
    if lines:
        terminalreporter.section("chaos")
        for line in lines:
            terminalreporter.line(line)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Workers that were interrupted stop nothing."""
    _end_labs(config)


def _end_labs(config: pytest.Config) -> None:
    """This run's and those of runs that are gone; only root has labs."""
    if os.geteuid() == 0 and not _is_worker(config):
        Lab(default_store()).end_others(os.getpid())
