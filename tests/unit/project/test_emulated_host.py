"""The parts of the emulated host that need no host."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host.support.channel import Channel
from tests.host.support.disk import HostError
from tests.host.support.emulator import command
from tests.host.support.snapshot import forwarded_port
from tests.paths import HOST

TABLE = """Hub -1 (channel):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[HOST_FORWARD]  14       127.0.0.1 41235       10.0.2.15    22     0     0
"""


def test_the_port_of_the_channel_is_found() -> None:
    assert forwarded_port(TABLE) == "41235"
    with pytest.raises(HostError, match="names no port"):
        forwarded_port(TABLE.replace("HOST_FORWARD", "CLOSED"))


def test_words_reach_a_command_as_they_are(tmp_path: Path) -> None:
    words = ["printf", "[%s]", "a b", "$HOME", "it's", ""]
    line = Channel(tmp_path, tmp_path).line("token", words)
    assert shlex.split(line)[-len(words) :] == words


def test_a_machine_that_is_restored_differs_in_what_it_waits_for_alone() -> None:
    assert command("stable", "-incoming", "defer") == [*command("stable"), "-incoming", "defer"]


def test_the_program_says_how_it_is_used() -> None:
    done = subprocess.run([sys.executable, HOST / "host"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: host build" in done.stderr
