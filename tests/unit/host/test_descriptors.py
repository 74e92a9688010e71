"""More descriptors than the 1024 of a process by default."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from virtcpr.errors import HostError
from virtcpr.host.processes import descriptors
from virtcpr.host.processes.proc import Process, lock_owner
from virtcpr.host.qemu.launch import HIGH, Launch, launch
from virtcpr.host.system.wait import readable

MANY = 1100


@pytest.fixture
def many() -> Iterator[None]:
    """So many are open that each further one has a number above what select(2) knows."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < 2 * MANY:
        pytest.fail("the hard limit of open files is too low for this test")
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, limits[1]))
    descriptors.allow(2 * MANY)
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(MANY)]
    yield
    for number in opened:
        os.close(number)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_no_more_than_needed_and_no_less_than_before(many: None) -> None:
    """Programs that are started inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert (soft, hard) == (2 * MANY, descriptors.most())
    descriptors.allow(10)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (2 * MANY, hard)


def test_descriptors_for_which_there_is_no_room_are_missed() -> None:
    """The kernel drops them, and delivers the others: a guest's table of RAM would be incomplete."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        socket.send_fds(theirs, [b"1"], [theirs.fileno()] * 8)
        socket.send_fds(theirs, [b"2"], [theirs.fileno()] * 3)
        with room_for(3):
            with pytest.raises(OSError, match="Too many open files"):
                descriptors.receive(ours, 64)
            word, fds = descriptors.receive(ours, 64)  # those that came with the first were closed
            for fd in fds:
                os.close(fd)
    assert (word, len(fds)) == (b"2", 3)


@contextmanager
def room_for(number: int) -> Iterator[None]:
    """So many more descriptors can be opened."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    filled = []
    with suppress(OSError):
        while True:
            filled.append(os.dup(1))
    for _ in range(number):
        os.close(filled.pop())
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in filled:
            os.close(fd)


def test_a_pipe_with_a_high_number(many: None) -> None:
    reader, writer = os.pipe()
    try:
        assert reader > 1024
        assert not readable(reader, 0)
        os.close(writer)
        assert readable(reader, 10), "its other end is closed"
    finally:
        os.close(reader)


def test_qemu_is_launched(many: None) -> None:
    """What is started here sleeps, as a child of init; its model is this process."""
    null = os.open("/dev/null", os.O_RDWR)
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as model:
        try:
            fds = {0: null, 1: null, 2: null}
            process = launch(Launch(["/bin/sleep", "600"], model.pid, Process.of(model.pid).started, fds))
        finally:
            model.kill()
            os.close(null)
    os.kill(process.pid, signal.SIGKILL)
    assert process.goes(10)


def test_a_pid_file_is_locked_as_long_as_the_process_lives(many: None, tmp_path: Path) -> None:
    """As libvirt's are: only then does it end the process."""
    path = tmp_path / "helper.pid"
    null = os.open("/dev/null", os.O_RDWR)
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as model:
        try:
            fds, started = {0: null, 1: null, 2: null}, Process.of(model.pid).started
            process = launch(Launch(["/bin/sleep", "600"], model.pid, started, fds, pid_file=str(path)))
        finally:
            model.kill()
            os.close(null)
    with path.open("r+") as file:
        assert file.read() == str(process.pid)
        with pytest.raises(BlockingIOError):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.kill(process.pid, signal.SIGKILL)
        assert process.goes(10)
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_number_above_those_that_wait(tmp_path: Path) -> None:
    """libvirtd's own, of a host with many guests, is where a helper expects its socket."""
    files = {number: tmp_path / str(number) for number in (HIGH, HIGH + 1, HIGH + 2)}
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as model, ExitStack() as opened:
        try:
            started = Process.of(model.pid).started
            fds = {number: opened.enter_context(path.open("w")).fileno() for number, path in files.items()}
            null = opened.enter_context(open("/dev/null", "w")).fileno()
            process = launch(Launch(["/bin/sleep", "600"], model.pid, started, {**fds, 1: null, 2: null}))
        finally:
            model.kill()
    targets = process.fd_targets()
    process.kill(10)
    assert {number: targets.get(number) for number in files} == {number: str(path) for number, path in files.items()}


def test_a_pid_file_that_somebody_has_laid_out_is_not_written(many: None, tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "helper.pid"
    victim.write_text("precious")
    link.symlink_to(victim)
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as model:
        try:
            started = Process.of(model.pid).started
            with pytest.raises(HostError, match="a second swtpm couldn't be started: FileExistsError"):
                launch(Launch(["/bin/true"], model.pid, started, {}, "a second swtpm", str(link)))
        finally:
            model.kill()
    assert victim.read_text() == "precious"


def test_who_holds_a_lock_is_not_looked_for_elsewhere(tmp_path: Path) -> None:
    """A directory may be another user's: what is laid out there is neither followed nor waited for."""
    held, link, fifo = tmp_path / "held", tmp_path / "link", tmp_path / "fifo"
    link.symlink_to(held)
    os.mkfifo(fifo)
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    command = [sys.executable, "-c", hold, str(held)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        owners = [lock_owner(path) for path in (held, link, fifo)]
        holder.kill()
    assert owners == [holder.pid, None, None]


def test_a_launch_that_fails_says_why(many: None) -> None:
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as model:
        started = Process.of(model.pid).started
        try:
            with pytest.raises(HostError, match="new QEMU couldn't be started"):
                launch(Launch(["/nonexistent"], model.pid, started, {}))
        finally:
            model.kill()
