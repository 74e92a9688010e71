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

from virtcpr.host.libvirt import daemon_jobs
from virtcpr.host.processes import placement, proc, sockets
from virtcpr.host.processes.proc import Gone, Process, User

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
PARENT = """
import subprocess
sleeper = subprocess.Popen(["sleep", "600"])
print("there", flush=True)
sleeper.wait()
"""
NAMED = r"""
import ctypes, time
ctypes.CDLL(None).prctl(15, b"\xe9t\xe9")  # PR_SET_NAME
print("there", flush=True)
time.sleep(600)
"""
BINDS = """
import signal, socket, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCONT})
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
print("there", flush=True)
signal.sigwait({signal.SIGCONT})
listener.listen()
time.sleep(600)
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
        try:
            yield Process.of(started.pid)
        finally:
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


def test_the_children_of_a_later_process_are_not_its() -> None:
    """Whoever kills a process with its children must not meet a stranger's, whose number it was."""
    with child(PARENT) as process:
        (sleeper,) = process.children()
        later = Process(process.pid, "1").children()
        sleeper.kill(10)
    assert later == ()


def test_a_later_thread_of_the_same_number_is_none() -> None:
    """pidfd_open says ENOENT or EINVAL of a thread that leads no process."""
    with child(TWO_THREADS) as process:
        (thread,) = process.tasks() - {process.pid}
        with pytest.raises(Gone):
            Process(thread, "1").open()
        assert Process(thread, "1").kill(0)


def test_names_may_hold_any_bytes(tmp_path: Path) -> None:
    """A thread's or a process's name, and the path of a stranger's socket: nobody else is kept from anything."""
    name = os.fsencode(tmp_path) + b"/\xe9t\xe9"
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as listener, child(NAMED) as process:
        other.bind(f"{tmp_path}/1\n1 2 3 x 5 6 7 8")
        other.listen()
        listener.bind(name)
        listener.listen()
        assert process.alive()
        assert process.there()
        ours = Process.of(os.getpid())
        assert sockets.listeners(ours, ours.fd_targets())[0][os.fsdecode(name)] == listener.fileno()
        assert sockets.holders(os.fsdecode(name)) == {os.getpid()}
        assert process.pid in proc.leaves(os.getsid(0))
        assert process.user() == User(os.getuid(), os.getgid(), tuple(sorted(os.getgroups())))
        assert proc.own_memory(process)
        assert proc.owner_of_thread(process.pid) == process.pid
        assert "user and groups" in placement.identity(process)
        assert placement.of_process(process)
        assert daemon_jobs._threads(process) == {"\ufffdt\ufffd"}


def test_a_socket_that_is_bound_only_is_not_one_that_listens(tmp_path: Path) -> None:
    """A client that comes between the two is refused."""
    path, session = str(tmp_path / "socket"), os.getsid(0)
    with child(BINDS, path) as process:
        assert os.path.exists(path)
        assert not sockets.listens(session, path)
        process.signal(signal.SIGCONT)
        deadline = time.monotonic() + 10
        while not sockets.listens(session, path):
            assert time.monotonic() < deadline
        assert answers(Path(path))
