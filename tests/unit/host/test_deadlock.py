"""A daemon that hangs in its shutdown is told from one that still has something to do: real processes, real threads."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from virtcpr.host.libvirt import deadlock
from virtcpr.host.processes.proc import Process

# The threads of libvirtd 11.3 that was seen to hang, by name; what each waits in is as there.
DAEMON = """
import ctypes, sys, threading, time
libc = ctypes.CDLL(None)
held = threading.Lock()
held.acquire()
ready = threading.Barrier(len(sys.argv))

def thread(name):
    libc.prctl(15, name.encode(), 0, 0, 0)
    ready.wait()
    if name == "udev-event":
        held.acquire()
    elif name == "vm-busy":
        while True:
            pass
    else:
        threading.Event().wait()

for name in sys.argv[1:]:
    threading.Thread(target=thread, args=(name,), daemon=True).start()
ready.wait()
print("ready", flush=True)
threading.Event().wait()
"""
HUNG = ("pool-spawner", "gmain", "gdbus", "udev-event", "daemon-shutdown", "vm-web")

Start = Callable[..., Process]


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as started:

        def make(*names: str) -> Process:
            daemon = subprocess.Popen([sys.executable, "-c", DAEMON, *names], stdout=subprocess.PIPE, text=True)
            started.callback(daemon.wait)
            started.callback(daemon.kill)
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == "ready\n"
            return Process.of(daemon.pid)

        yield make


def test_one_that_hangs_is_ended(start: Start) -> None:
    process = start(*HUNG)
    begun = time.monotonic()
    with deadlock.broken(process):
        assert process.ends(20)
    assert time.monotonic() - begun >= deadlock.HUNG_SECONDS


@pytest.mark.parametrize(
    "names",
    [
        (*HUNG, "rpc-libvirtd"),
        (*HUNG, "qemu-event"),
        tuple(name for name in HUNG if name != "daemon-shutdown"),
        tuple(name for name in HUNG if name != "udev-event"),
        tuple("vm-busy" if name == "vm-web" else name for name in HUNG),
    ],
    ids=["answers a call", "handles an event", "isn't told to end", "no such thread", "still moves"],
)
def test_one_that_may_have_something_to_do_is_left_alone(
    start: Start, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlock, "HUNG_SECONDS", 0.3)
    monkeypatch.setattr(deadlock, "POLL", 0.05)
    process = start(*names)
    with deadlock.broken(process):
        assert not process.ends(1.5)
