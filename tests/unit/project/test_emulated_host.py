"""The parts of the emulated host that need no host."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host.support import chosen
from tests.host.support.channel import EmulatedChannel
from tests.host.support.disk import HostError
from tests.host.support.emulator import command
from tests.host.support.remote import RESET, packages
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
    line = EmulatedChannel(tmp_path, tmp_path).line("token", words)
    assert shlex.split(line)[-len(words) :] == words


def test_a_machine_that_is_restored_differs_in_what_it_waits_for_alone() -> None:
    assert command("stable", "-incoming", "defer") == [*command("stable"), "-incoming", "defer"]


def test_the_program_says_how_it_is_used() -> None:
    done = subprocess.run([sys.executable, HOST / "host"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: host build" in done.stderr


def test_a_machine_that_is_given_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTCPR_HOST", "ssh:root@192.0.2.1")
    assert (chosen.wanted(), chosen.is_emulated()) == (True, False)
    assert type(chosen.host()).__name__ == "Remote"
    monkeypatch.setenv("VIRTCPR_HOST", "root@192.0.2.1")
    with pytest.raises(HostError, match="none, or ssh:root@ADDRESS, or nothing"):
        chosen.host()


def test_what_a_machine_that_is_given_needs_is_what_the_lists_name() -> None:
    needed = packages(HOST / "image/packages").split()
    assert {"apparmor", "numactl"} <= set(needed)
    assert not any(word.startswith("#") for word in needed)
    assert "for name in QEMU; do" in RESET  # where the lab's versions are put in
