"""What libvirt's daemon is doing besides the jobs of domains; here another process stands for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from virtcpr.host.libvirt.daemon_jobs import OWN, daemon_jobs
from virtcpr.host.processes.proc import Process

Start = Callable[[str], Process]
THREAD = """
import ctypes, threading
def work():
    ctypes.CDLL(None).prctl(15, b"fd-stream", 0, 0, 0)
    ready.set()
    threading.Event().wait()
ready = threading.Event()
threading.Thread(target=work, daemon=True).start()
ready.wait()
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A process that does this, and then waits."""
    processes = []

    def run(text: str) -> Process:
        script = f"import os, subprocess, sys\n{text}\nprint('ready', flush=True)\nsys.stdin.read()\n"
        command = [sys.executable, "-c", script]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return Process.of(process.pid)

    yield run
    for process in processes:
        process.communicate("")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kept = os.open('log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)",
        "open('volume', 'w').close(); kept = open('volume')",
        "kept = os.open('own.pid', os.O_RDWR | os.O_CREAT)",
        "kept = open('volume', 'w'); os.unlink('volume')",
        "kept = os.pipe(), os.openpty(), os.memfd_create('x'), open('/dev/null', 'w')",
        "subprocess.Popen(['true']); __import__('time').sleep(0.5)",
    ],
    ids=[
        "nothing",
        "its log",
        "reads a file",
        "its pid file",
        "a deleted file",
        "pipes, a console, memory",
        "a child that has ended",
    ],
)
def test_idle(start: Start, tmp_path: Path, text: str) -> None:
    assert daemon_jobs(start(text), (*OWN, f"{tmp_path}/own")) == ()


def test_a_stream(start: Start) -> None:
    assert daemon_jobs(start(THREAD)) == ("transfers a volume, or another stream",)


def test_a_child(start: Start) -> None:
    assert daemon_jobs(
        start("child = subprocess.Popen(['sleep', '5'], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)")
    ) == ("runs sleep",)


def test_a_volume_that_it_writes(start: Start, tmp_path: Path) -> None:
    """`vol-clone` of a raw volume, which libvirt copies itself."""
    assert daemon_jobs(start("kept = open('volume', 'w')")) == (f"writes {tmp_path}/volume",)


def test_a_daemon_that_has_ended() -> None:
    assert daemon_jobs(Process(1 << 22, "0")) == ()
