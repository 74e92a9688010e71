"""Two processes that serve a guest (sleepers): who lives on, and whose files are where libvirt looks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from virtcpr.actions.transfer.resources import helpers
from virtcpr.domain.helpers.helper import Helper
from virtcpr.errors import HostError
from virtcpr.host.processes.proc import Process
from virtcpr.host.system.wait import wait_until

# Holds its pid file locked; a child of it does nothing.
SLEEPER = """
import fcntl, subprocess, sys, time
file = open(sys.stdin.readline().strip(), "w")
fcntl.lockf(file, fcntl.LOCK_EX)
child = subprocess.Popen(["sleep", "600"])
print(child.pid, flush=True)
time.sleep(600)
"""


@dataclass
class Two:
    helper: Helper
    first: Process
    second: Process
    children: tuple[Process, Process]

    @property
    def files(self) -> dict[str, str]:
        """Name → whose it is."""
        return {path.name: path.read_text() for path in Path(self.helper.socket).parent.iterdir()}

    def stopped(self) -> bool:
        return (self.first.path / "stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    """As ``start`` leaves them."""
    argv = (sys.executable, "-c", SLEEPER)
    sleeper = partial(subprocess.Popen, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with sleeper() as one, sleeper() as other:
        try:
            first, second = Process.of(one.pid), Process.of(other.pid)
            children = begun(one, f"{tmp_path}/tpm.pid"), begun(other, f"{tmp_path}/tpm.pid.virtcpr")
            socket, pid_file, lock = (f"{tmp_path}/{name}" for name in ("tpm.sock", "tpm.pid", ".lock"))
            helper = Helper("swtpm", first.pid, first.started, argv, socket, pid_file, lock, writes=True)
            for name, owner in (("tpm.sock.virtcpr", "first"), (".lock.virtcpr", "first"), ("tpm.pid", "first")):
                (tmp_path / name).write_text(owner)
            for name in ("tpm.sock", ".lock", "tpm.pid.virtcpr"):
                (tmp_path / name).write_text("second")
            yield Two(helper, first, second, children)
        finally:
            one.kill()
            other.kill()
            for child in children:
                child.kill(10)


def begun(sleeper: subprocess.Popen[str], pid_file: str) -> Process:
    """Its child, once it holds its pid file."""
    assert sleeper.stdin is not None
    assert sleeper.stdout is not None
    sleeper.stdin.write(f"{pid_file}\n")
    sleeper.stdin.flush()
    return Process.of(int(sleeper.stdout.readline()))


def test_given_back(two: Two) -> None:
    helpers.stop([two.helper])
    assert wait_until(two.stopped, 10)
    for _ in range(2):  # recovery may have been interrupted
        assert helpers.give_back([two.helper]) == []
        assert not two.second.alive()
        assert wait_until(lambda: not two.stopped(), 10)
        assert two.files == {"tpm.sock": "first", ".lock": "first", "tpm.pid": "first"}


def test_handed_over(two: Two) -> None:
    helpers.stop([two.helper])
    for _ in range(2):
        helpers.hand_over([two.helper])
        assert not two.first.alive()
        assert two.second.alive()
        assert two.files == {"tpm.sock": "second", ".lock": "second", "tpm.pid": "second"}


def test_nobody_has_the_guest_any_more(two: Two) -> None:
    helpers.end([two.helper])
    assert not two.first.alive()
    assert not two.second.alive()
    assert not any(name.endswith(".virtcpr") for name in two.files)


def test_the_first_goes_on_whatever_fails(two: Two) -> None:
    two.first.signal(signal.SIGSTOP)
    lock = Path(str(two.helper.lock))
    lock.unlink()
    (lock / "in the way").mkdir(parents=True)
    (problem,) = helpers.give_back([two.helper])
    assert problem.startswith("its TPM may not work: [Errno")
    assert wait_until(lambda: not two.stopped(), 10)


def test_who_holds_the_pid_file_and_is_another_program(two: Two) -> None:
    """The directory may be another user's to write in."""
    strange = replace(two.helper, argv=("swtpm", "socket"))
    assert helpers.give_back([strange]) == []
    assert two.second.alive()


def test_their_children_end_with_them(two: Two) -> None:
    helpers.hand_over([two.helper])
    assert [child.alive() for child in two.children] == [False, True]


def test_leftovers_of_an_earlier_move_do_not_replace_what_is_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first helper can't be started twice, and both are given back."""

    def refused(helper: Helper) -> None:
        raise HostError("no")

    monkeypatch.setattr(helpers, "_start", refused)
    own = Process.of(os.getpid())
    names = [str(tmp_path / name) for name in ("one.sock", "other.sock")]
    both = [Helper("virtiofsd", own.pid, own.started, (), name, f"{name}.pid", sandbox=True) for name in names]
    for name in names:
        Path(name).write_text("in use")
        Path(f"{name}.virtcpr").write_text("left over")
    with pytest.raises(HostError, match="no"):
        helpers.start(both)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "one.sock": "in use",
        "other.sock": "in use",
    }


def test_a_guest_without_one() -> None:
    helpers.start([])
    helpers.stop([])
    helpers.hand_over([])
    helpers.end([])
    assert helpers.give_back([]) == []


def _argv(process: Process) -> tuple[str, ...]:
    """Empty for a process that is about to run its program."""
    with suppress(OSError):
        return process.argv()
    return ()


@pytest.fixture
def detached(tmp_path: Path) -> Iterator[tuple[Helper, Process, Process]]:
    """As ``start`` leaves two that write their pid files themselves: the helper, the first, the second."""
    argv = (sys.executable, "-c", "import time; time.sleep(600)")
    with subprocess.Popen(argv) as one, subprocess.Popen(argv) as other:
        try:
            first, second = Process.of(one.pid), Process.of(other.pid)
            assert wait_until(lambda: _argv(first) == _argv(second) == argv, 10)
            socket, pid_file = f"{tmp_path}/net.socket", f"{tmp_path}/net.pid"
            for path, content in ((f"{socket}.virtcpr", "first"), (socket, "second")):
                Path(path).write_text(content)
            for path, process in ((f"{pid_file}.virtcpr", one), (pid_file, other)):
                Path(path).write_text(f"{process.pid}\n")
            yield Helper("passt", first.pid, first.started, argv, socket, pid_file, detaches=True), first, second
        finally:
            one.kill()
            other.kill()


def named(helper: Helper) -> tuple[set[str], str, int]:
    """The files there are, whose the socket is, and who is named in the pid file."""
    names = {path.name for path in Path(helper.socket).parent.iterdir()}
    return names, Path(helper.socket).read_text(), int(Path(helper.pid_file).read_text())


def test_one_that_detaches_is_given_back(detached: tuple[Helper, Process, Process]) -> None:
    helper, first, second = detached
    helpers.there([helper])
    for _ in range(2):
        assert helpers.give_back([helper]) == []
        assert (first.alive(), second.alive()) == (True, False)
        assert named(helper) == ({"net.socket", "net.pid"}, "first", first.pid)
    with pytest.raises(HostError, match="the second passt has ended"):
        helpers.there([helper])


def test_one_that_detaches_is_handed_over(detached: tuple[Helper, Process, Process]) -> None:
    helper, first, second = detached
    for _ in range(2):
        helpers.hand_over([helper])
        assert (first.alive(), second.alive()) == (False, True)
        assert named(helper) == ({"net.socket", "net.pid"}, "second", second.pid)


def test_one_that_detaches_and_ends_at_once(
    detached: tuple[Helper, Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one's files are where they were."""
    helper, first, second = detached
    assert helpers.give_back([helper]) == []
    monkeypatch.setattr(helpers, "_launch", lambda *_: second.pid)
    with pytest.raises(HostError, match="a second passt ended at once"):
        helpers.start([helper])
    assert first.alive()
    assert named(helper) == ({"net.socket", "net.pid"}, "first", first.pid)
