"""Signals during a batch."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import signal
from virtcpr.host.processes.interrupt import Interrupt
with Interrupt(), Interrupt() as inner:
    signal.raise_signal(signal.{signal})
print("goes on", inner.requested, signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL)
"""


@pytest.mark.parametrize(("signal", "requested"), [("SIGTSTP", False), ("SIGINT", True)])
def test_ctrl_z_stops_nothing(signal: str, requested: bool) -> None:
    """A guest may be paused, and the guardian acts only when virtcpr is dead."""
    program = [sys.executable, "-c", PROGRAM.format(signal=signal)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == f"goes on {requested} True\n"
