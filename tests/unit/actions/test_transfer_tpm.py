"""Two processes of a TPM, for which sleepers stand in: who lives on, and whose files are where libvirt looks."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from virtcpr.actions.transfer import tpm
from virtcpr.domain.swtpm import Swtpm
from virtcpr.host.processes.proc import Process
from virtcpr.host.system.wait import wait_until


@dataclass
class Two:
    swtpm: Swtpm
    first: Process
    second: Process

    @property
    def files(self) -> dict[str, str]:
        """Name → whose it is."""
        return {path.name: path.read_text() for path in Path(self.swtpm.state).iterdir()}

    def stopped(self) -> bool:
        return (self.first.path / "stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    """As ``start`` leaves them."""
    argv = ("sleep", f"600.{tmp_path.stat().st_ino}")  # like no other test's
    like = Swtpm(0, "", argv, "", "")
    with subprocess.Popen(argv) as one, subprocess.Popen(argv) as other:
        first, second = Process.of(one.pid), Process.of(other.pid)
        # Each has its command line a moment after it was executed.
        wait_until(lambda: tpm._second(replace(like, pid=first.pid)) and tpm._second(replace(like, pid=second.pid)), 10)
        swtpm = Swtpm(first.pid, first.started, argv, f"{tmp_path}/tpm.sock", str(tmp_path))
        for name, owner in (("tpm.sock.virtcpr", "first"), (".lock.virtcpr", "first"), ("tpm.pid", "first")):
            (tmp_path / name).write_text(owner)
        for name in ("tpm.sock", ".lock", "tpm.pid.virtcpr"):
            (tmp_path / name).write_text("second")
        yield Two(swtpm, first, second)
        one.kill()
        other.kill()


def test_given_back(two: Two) -> None:
    tpm.stop(two.swtpm)
    assert wait_until(two.stopped, 10)
    for _ in range(2):  # recovery may have been interrupted
        assert tpm.give_back(two.swtpm) == []
        assert not two.second.alive()
        assert wait_until(lambda: not two.stopped(), 10)
        assert two.files == {"tpm.sock": "first", ".lock": "first", "tpm.pid": "first"}


def test_handed_over(two: Two) -> None:
    tpm.stop(two.swtpm)
    for _ in range(2):
        tpm.hand_over(two.swtpm)
        assert not two.first.alive()
        assert two.second.alive()
        assert two.files == {"tpm.sock": "second", ".lock": "second", "tpm.pid": "second"}


def test_nobody_has_the_guest_any_more(two: Two) -> None:
    tpm.end(two.swtpm)
    assert not two.first.alive()
    assert not two.second.alive()
    assert not any(name.endswith(".virtcpr") for name in two.files)


def test_the_first_goes_on_whatever_fails(two: Two) -> None:
    two.first.signal(signal.SIGSTOP)
    lock = Path(two.swtpm.lock)
    lock.unlink()
    (lock / "in the way").mkdir(parents=True)
    (problem,) = tpm.give_back(two.swtpm)
    assert problem.startswith("its TPM may not work: [Errno")
    assert wait_until(lambda: not two.stopped(), 10)


def test_a_guest_without_one() -> None:
    tpm.start(None)
    tpm.stop(None)
    tpm.hand_over(None)
    tpm.end(None)
    assert tpm.give_back(None) == []
