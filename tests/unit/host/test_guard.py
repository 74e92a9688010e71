"""The guardian where there is no systemd: at its post when it is armed, gone when it is disarmed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from virtcpr.actions import guardian, recover
from virtcpr.errors import HostError
from virtcpr.host.libvirt import daemon
from virtcpr.host.processes import guard
from virtcpr.host.processes.proc import Process
from virtcpr.model import ExitCode, RecoverReport


def test_it_is_ready_and_ends_when_it_is_told() -> None:
    me = Process.of(os.getpid())
    child = guard._child([sys.executable, "-I", "-m", guard.PROGRAM, str(me.pid), me.started])
    assert child.process.poll() is None
    child.disarm()
    assert child.process.poll() is not None


def test_it_outlives_whoever_armed_it() -> None:
    """In a session of its own, so that neither a terminal nor a group that is killed ends it."""
    me = Process.of(os.getpid())
    child = guard._child([sys.executable, "-I", "-m", guard.PROGRAM, str(me.pid), me.started])
    try:
        assert os.getsid(child.process.pid) == child.process.pid != os.getsid(0)
    finally:
        child.disarm()


def test_one_that_ends_at_once_is_none() -> None:
    with pytest.raises(HostError, match="the guardian didn't start"):
        guard._child([sys.executable, "-c", "pass"])


def test_one_that_cannot_be_started_is_none() -> None:
    with pytest.raises(HostError, match="can't be started"):
        guard._child(["/no/such/python"])


def test_the_program_can_be_run_as_it_is() -> None:
    """``-I``: nothing of the caller's environment or directory is in its way."""
    done = subprocess.run([sys.executable, "-I", "-c", f"import {guard.PROGRAM}"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@dataclass
class Stub:
    """The daemon as its recipe tells of it."""

    process: Process | None = None
    done: list[str] = field(default_factory=list)
    stopped: Callable[[], object] = lambda: None

    def stop(self) -> None:
        self.done.append("stop")
        self.stopped()

    def start(self) -> None:
        self.done.append("start")


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stub:
    """Nothing is to be settled; a guardian was told how the daemon is started."""
    made = Stub()
    recipe = tmp_path / "guardian.json"
    recipe.write_text("{}")
    monkeypatch.setattr(guard, "RECIPE", recipe)
    monkeypatch.setattr(daemon, "STOPPING", tmp_path / "stopping")
    monkeypatch.setattr(daemon, "from_recipe", lambda *_: made)
    monkeypatch.setattr(guardian, "Lock", lambda **_: nullcontext())
    monkeypatch.setattr(recover, "recover", lambda *_, **__: RecoverReport((), ExitCode.DONE))
    return made


def test_nobody_needs_to_listen_to_it(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal or pipe that virtcpr wrote to died with it: the daemon is started all the same."""

    def fails(*_: object, **__: object) -> None:
        raise HostError("recovery failed")

    monkeypatch.setattr(recover, "recover", fails)
    monkeypatch.setattr(daemon, "running", fails)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb", buffering=0) as nobody:
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(nobody, write_through=True))
        assert guardian.settle_and_start_daemon() == 1
    assert stub.done == ["start"]


def test_a_daemon_that_runs_is_left_alone(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "running", lambda: stub)
    assert guardian.settle_and_start_daemon() == 0
    assert stub.done == []


def test_one_that_virtcpr_was_just_stopping_is_stopped_and_started(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its lock still, and is about to end; or a part of its sockets is gone, and nobody can reach it."""
    child = subprocess.Popen(["sleep", "600"])
    stub.stopped = child.kill
    daemon.note_stopping(Process.of(child.pid))
    monkeypatch.setattr(daemon, "running", lambda: stub)
    assert guardian.settle_and_start_daemon() == 0
    child.wait()
    assert stub.done == ["stop", "start"]
    assert not daemon.STOPPING.exists()
    stub.done.clear()
    assert guardian.settle_and_start_daemon() == 0  # late or twice it is harmless
    assert stub.done == []


def test_an_old_note_of_a_stop_is_of_no_process(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "running", lambda: stub)
    daemon.STOPPING.write_text(f"{os.getpid()} 1\n")  # somebody else has that number now
    assert guardian.settle_and_start_daemon() == 0
    for text in ("", "x y", "1"):
        daemon.STOPPING.write_text(text)
        assert guardian.settle_and_start_daemon() == 0
    assert stub.done == []


def test_one_that_does_not_start_is_told_of(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise HostError("libvirt's daemon doesn't start")

    monkeypatch.setattr(daemon, "running", fails)
    monkeypatch.setattr(Stub, "start", fails)
    assert guardian.settle_and_start_daemon() == 1
    assert "virtcpr: error: libvirt's daemon doesn't start" in capsys.readouterr().err
