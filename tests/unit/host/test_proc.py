"""Processes that end; real ones."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from virtcpr.host.processes.proc import Process

# The RAM of a guest, which the kernel has to free before it closes what the process has open.
BIG = """
import mmap, os, signal, socket, sys
size = 256 << 20
fd = os.memfd_create("ram")
os.ftruncate(fd, size)
ram = mmap.mmap(fd, size)
for page in range(0, size, 4096):
    ram[page] = 1
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("there", flush=True)
while True:
    signal.pause()
"""
TWO_THREADS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
print("there", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


@contextmanager
def child(program: str, *argv: str) -> Iterator[Process]:
    with subprocess.Popen([sys.executable, "-c", program, *argv], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "there\n"
        yield Process.of(started.pid)
        started.kill()


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def _seen_between_death_and_end(socket_path: Path) -> bool:
    """Whether the process was seen dead while it still had its socket; it lasts for some 20 ms."""
    with child(BIG, str(socket_path)) as process:
        os.kill(process.pid, signal.SIGKILL)
        assert process.ends(10)
        listened, there = answers(socket_path), process.there()
        assert process.goes(10)
        assert not answers(socket_path)
        assert not process.there()
    return listened and there


def test_one_that_is_killed_is_dead_before_its_descriptors_are_closed(tmp_path: Path) -> None:
    assert any(_seen_between_death_and_end(tmp_path / f"socket{number}") for number in range(5))


def test_one_that_has_ended_has_no_command_line() -> None:
    """A zombie's is empty, as is that of a process whose memory is gone: nobody may take it for another program."""
    with subprocess.Popen(["true"]) as started:
        os.waitid(os.P_PID, started.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProcessLookupError):
            Process.of(started.pid).argv()


def test_whoever_needs_its_locks_waits_until_it_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with child(BIG, str(path)) as process:
        assert process.kill(0.0)  # its memory gets the time that it takes
        assert not answers(path)


def test_one_whose_first_thread_has_ended_lives(tmp_path: Path) -> None:
    with child(TWO_THREADS) as process:
        deadline = time.monotonic() + 10
        while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < deadline
        assert process.alive()
        assert not process.ends(0)
        assert process.kill(10)
        assert not process.alive()


def test_a_later_process_of_the_same_number_is_another(tmp_path: Path) -> None:
    with child(TWO_THREADS) as process:
        other = Process(process.pid, "1")
        assert not other.alive()
        assert not other.there()
        assert other.kill(0)
        assert process.alive()


@pytest.mark.parametrize("gone", [True, False])
def test_one_that_has_ended_was_killed(gone: bool) -> None:
    with subprocess.Popen(["true"]) as started:
        process = Process.of(started.pid)
    assert process.kill(0, gone=gone)
