"""Ending a process whose threads rest, and only then; the process is a real one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from virtcpr.errors import HostError
from virtcpr.host.processes import kill_paused
from virtcpr.host.processes.proc import Process

# A QEMU with one vCPU: it computes from SIGUSR1 to SIGUSR2.
GUEST = """
import signal, threading
runs = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: runs.set())
signal.signal(signal.SIGUSR2, lambda *_: runs.clear())
def vcpu():
    while runs.wait():
        pass
thread = threading.Thread(target=vcpu)
thread.start()
print(thread.native_id, flush=True)
while True:
    signal.pause()
"""


class Guest:
    def __init__(self, child: subprocess.Popen[str]) -> None:
        self.child, self.process = child, Process.of(child.pid)
        assert child.stdout is not None
        self.vcpu = int(child.stdout.readline())

    def used(self) -> int:
        """CPU time of the vCPU, in ns: the clock ticks of `stat` may be a few µs apart."""
        return int(Path(f"/proc/{self.process.pid}/task/{self.vcpu}/schedstat").read_text().split()[0])

    def has_run(self) -> None:
        """Wait until the vCPU has computed for 1 ms: on a busy machine it may not get a processor for a while."""
        begun = self.used()
        while self.used() < begun + 1_000_000:
            time.sleep(0.001)

    def run(self) -> None:
        os.kill(self.process.pid, signal.SIGUSR1)
        self.has_run()

    def rest(self) -> None:
        os.kill(self.process.pid, signal.SIGUSR2)
        time.sleep(0.2)

    def state(self) -> str:
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def guest() -> Iterator[Guest]:
    child = subprocess.Popen([sys.executable, "-c", GUEST], stdout=subprocess.PIPE, text=True)
    yield Guest(child)
    child.kill()
    with suppress(ChildProcessError):
        child.wait()
    assert child.stdout is not None
    child.stdout.close()


def end(guest: Guest, rests: Callable[[], bool]) -> bool:
    return kill_paused.end(guest.process, [guest.vcpu, guest.vcpu], rests, 10)


def test_one_that_rests_is_ended(guest: Guest) -> None:
    assert end(guest, lambda: True)
    assert not guest.process.alive()


def test_one_that_runs_is_not_even_stopped(guest: Guest) -> None:
    guest.run()
    assert not end(guest, lambda: False)
    assert guest.state() in "RS"


def test_one_that_is_resumed_after_the_question_lives_on(guest: Guest) -> None:
    """And goes on: it isn't left stopped."""
    asked = []

    def rests() -> bool:
        asked.append(True)
        if len(asked) == 1:
            guest.run()
            return True
        return False

    assert not end(guest, rests)
    assert len(asked) == 2
    assert guest.process.alive()
    guest.has_run()


def test_one_that_always_runs_is_given_up(guest: Guest) -> None:
    guest.run()

    def rests() -> bool:
        guest.has_run()
        return True

    assert not end(guest, rests)
    assert guest.process.alive()
    assert guest.state() in "RS"


def test_one_that_rests_again_is_ended(guest: Guest) -> None:
    """A guest that ran for a moment, and whose state was taken again."""
    guest.run()
    guest.rest()
    assert end(guest, lambda: True)


def test_one_that_is_gone_is_ended() -> None:
    with subprocess.Popen(["true"]) as child:
        gone = Process.of(child.pid)
        child.wait()
    assert kill_paused.end(gone, [gone.pid], lambda: pytest.fail("asked"), 1)
    kill_paused.go_on(gone)


def test_one_that_dies_at_the_question(guest: Guest) -> None:
    def rests() -> bool:
        guest.child.kill()
        guest.child.wait()
        return True

    assert end(guest, rests)


def test_what_the_question_raises_leaves_it_running(guest: Guest) -> None:
    def rests() -> bool:
        raise HostError("no answer")

    with pytest.raises(HostError, match="no answer"):
        end(guest, rests)
    assert guest.state() in "RS"


VCPUS = 256
# All of them rest, but the first where it is told to run.
BIG = f"""
import signal, sys, threading
runs = threading.Event()
vcpus = [threading.Thread(target=lambda: threading.Event().wait()) for _ in range({VCPUS})]
if sys.argv[1:]:
    def vcpu():
        while True:
            pass
    vcpus[0] = threading.Thread(target=vcpu)
for thread in vcpus:
    thread.start()
print(*(thread.native_id for thread in vcpus), flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize("first_runs", [False, True])
def test_hundreds_of_vcpus_are_looked_at_one_by_one(first_runs: bool) -> None:
    """To stop 256 threads takes a millisecond of all of them together."""
    command = [sys.executable, "-c", BIG, *(["run"] if first_runs else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        threads = [int(word) for word in child.stdout.readline().split()]
        process = Process.of(child.pid)
        first = Path(f"/proc/{child.pid}/task/{threads[0]}/schedstat")

        def rests() -> bool:
            begun = int(first.read_text().split()[0])
            while first_runs and int(first.read_text().split()[0]) < begun + 1_000_000:
                time.sleep(0.001)
            return True

        try:
            assert kill_paused.end(process, threads, rests, 10) is not first_runs
            assert process.alive() is first_runs
        finally:
            child.kill()


@pytest.mark.parametrize(
    ("threads", "ran", "rested"), [(1, 90, True), (1, 110, False), (256, 460, True), (256, 620, False)]
)
def test_the_more_threads_the_longer_one_may_wait_for_the_others(threads: int, ran: int, rested: bool) -> None:
    """In µs: the first that is woken spins until all are."""
    before = dict.fromkeys(range(threads), 5_000_000)
    assert kill_paused._only_stopped(before, before | {0: 5_000_000 + ran * 1000}) is rested


def test_one_that_does_not_die(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Process, "kill", lambda *_: False)
    with pytest.raises(HostError, match=rf"process {guest.process.pid} was killed, and isn't gone after 10 s"):
        end(guest, lambda: True)


def test_threads_that_do_not_stop(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kill_paused, "STOP_SECONDS", 0.05)
    monkeypatch.setattr(kill_paused, "_state", lambda *_: "D")
    assert not end(guest, lambda: True)
    assert guest.state() in "RS"


def test_one_that_is_said_to_stop_still_runs(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux sets a thread's state before it counts what the thread ran."""
    guest.run()
    monkeypatch.setattr(kill_paused, "TRY_SECONDS", 0.5)
    monkeypatch.setattr(kill_paused, "STOP_SECONDS", 0.05)
    monkeypatch.setattr(kill_paused, "_state", lambda *_: "T")
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda *_: None)
    assert not end(guest, lambda: True)
    assert guest.process.alive()


def test_a_stopped_one_goes_on(guest: Guest) -> None:
    os.kill(guest.process.pid, signal.SIGSTOP)
    while guest.state() != "T":
        time.sleep(0.01)
    kill_paused.go_on(guest.process)
    while guest.state() == "T":
        time.sleep(0.01)
    kill_paused.go_on(Process(guest.process.pid, "1"))  # another one of its number is left alone
    assert guest.process.alive()
