"""Signals during a batch."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import signal
from virtcpr.host.processes.interrupt import Interrupt, Unstopped
with Unstopped(), Interrupt(), Interrupt() as inner:
    signal.raise_signal(signal.{signal})
after = [signal.getsignal(number) is signal.SIG_DFL for number in (signal.SIGTSTP, signal.SIGTTOU)]
print("goes on", inner.requested, after)
"""


@pytest.mark.parametrize("signal", ["SIGTSTP", "SIGTTOU"])
def test_nor_where_there_is_nothing_to_decide(signal: str) -> None:
    program = "import signal\nfrom virtcpr.host.processes.interrupt import Unstopped\nwith Unstopped():\n"
    program += f"    signal.raise_signal(signal.{signal})\nprint('goes on')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "goes on\n"


@pytest.mark.parametrize(("signal", "requested"), [("SIGTSTP", False), ("SIGTTOU", False), ("SIGINT", True)])
def test_the_terminal_stops_nothing(signal: str, requested: bool) -> None:
    """A guest may be paused, and the guardian acts only when virtcpr is dead."""
    program = [sys.executable, "-c", PROGRAM.format(signal=signal)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == f"goes on {requested} [True, True]\n"
