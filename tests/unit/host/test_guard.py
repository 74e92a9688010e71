"""The guardian where there is no systemd: at its post when it is armed, gone when it is disarmed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from virtcpr.actions import guardian, recover
from virtcpr.errors import HostError
from virtcpr.host.libvirt import daemon
from virtcpr.host.processes import guard
from virtcpr.host.processes.proc import Process


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


def test_nobody_needs_to_listen_to_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The terminal or pipe that virtcpr wrote to died with it: the daemon is started all the same."""

    def fails(*_: object, **__: object) -> None:
        raise HostError("recovery failed")

    class Stopped:
        def start(self) -> None:
            started.append(self)

    started: list[Stopped] = []
    recipe = tmp_path / "guardian.json"
    recipe.write_text("{}")
    monkeypatch.setattr(guard, "RECIPE", recipe)
    monkeypatch.setattr(recover, "recover", fails)
    monkeypatch.setattr(daemon, "running", fails)
    monkeypatch.setattr(daemon, "from_recipe", lambda _recipe: Stopped())
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb", buffering=0) as nobody:
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(nobody, write_through=True))
        assert guardian.settle_and_start_daemon() == 1
    assert len(started) == 1
