"""A user's own libvirt (``qemu:///session``): where its things are, who may move its guests, who keeps it down."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from virtcpr.actions import history
from virtcpr.actions.daemon import blackout
from virtcpr.actions.recover import recover
from virtcpr.errors import HostError
from virtcpr.host.libvirt import daemon
from virtcpr.host.libvirt.daemon import DriverLock
from virtcpr.host.processes import guard
from virtcpr.host.processes.proc import Process, lock_owner
from virtcpr.host.system import paths


@pytest.mark.parametrize(
    ("environment", "run", "state", "log"),
    [
        (
            {"HOME": "/home/a", "XDG_RUNTIME_DIR": "/run/user/7"},
            "/run/user/7/virtcpr",
            "/home/a/.local/state/virtcpr",
            "/home/a/.cache/libvirt/qemu/log",
        ),
        (
            {"HOME": "/home/a"},
            "/home/a/.cache/virtcpr",
            "/home/a/.local/state/virtcpr",
            "/home/a/.cache/libvirt/qemu/log",
        ),
        (
            {"HOME": "/home/a", "XDG_RUNTIME_DIR": "/r", "XDG_STATE_HOME": "/s", "XDG_CACHE_HOME": "/c"},
            "/r/virtcpr",
            "/s/virtcpr",
            "/c/libvirt/qemu/log",
        ),
    ],
)
def test_a_users_things_are_where_xdg_has_them(environment: dict[str, str], run: str, state: str, log: str) -> None:
    found = paths.of_user(environment)
    assert (found.run, found.state, found.qemu_log) == (Path(run), Path(state), Path(log))
    assert found.status == found.run.parent / "libvirt/qemu/run"


def test_who_may_do_something_to_guests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert [paths.may_act(uri) for uri in (None, "qemu:///system", "qemu:///session")] == [False, False, True]
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert paths.may_act(None)


def test_only_root_may_look_into_the_systems_domains(monkeypatch: pytest.MonkeyPatch) -> None:
    """libvirt lets members of its group in, but its status files are root's."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("LIBVIRT_DEFAULT_URI", raising=False)
    paths.refuse_others(None)
    paths.refuse_others("qemu:///session")
    with pytest.raises(HostError, match="only root can look into the system's domains") as refused:
        paths.refuse_others("qemu:///system")
    assert refused.value.hint == paths.NOT_ROOT
    for command in (lambda: history.report("qemu:///system", (), None), lambda: recover((), uri="qemu:///system")):
        with pytest.raises(HostError, match="only root can look"):
            command()
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "qemu:///system")
    with pytest.raises(HostError, match="only root can look"):
        paths.refuse_others(None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    paths.refuse_others("qemu:///system")


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> guard.Child:
    """A guardian whose driver.pid is in a directory of this test's."""
    monkeypatch.setattr(daemon, "DRIVER_PID", tmp_path / "driver.pid")
    own = "import sys, pathlib; from virtcpr.host.libvirt import daemon; "
    own += f"daemon.DRIVER_PID = pathlib.Path({str(tmp_path)!r}, 'driver.pid'); "
    own += "from virtcpr.actions import guardian; guardian.settle_and_start_daemon = lambda: sys.stdin.read(); "
    me = Process.of(os.getpid())
    return guard._child([sys.executable, "-c", own + f"guardian.main({str(me.pid)!r}, {me.started!r})"])


def test_the_guardian_keeps_the_driver_locked_until_it_is_told(child: guard.Child, tmp_path: Path) -> None:
    try:
        with child.lock():
            assert lock_owner(tmp_path / "driver.pid") == child.process.pid
            with pytest.raises(HostError, match=rf"was started again meanwhile \(process {child.process.pid}\)"):
                DriverLock().__enter__()
        assert lock_owner(tmp_path / "driver.pid") is None
        with child.lock():
            assert lock_owner(tmp_path / "driver.pid") == child.process.pid
    finally:
        child.disarm()
    with pytest.raises(HostError, match="the guardian has ended"), child.lock():
        pass


def test_the_guardian_is_not_taken_for_the_daemon(child: guard.Child) -> None:
    """It would be stopped, and started in the daemon's stead."""
    try:
        with child.lock(), pytest.raises(HostError, match=rf"{child.process.pid} \(python.*\), which isn't libvirt's"):
            daemon.running()
    finally:
        child.disarm()


def test_a_look_at_who_holds_the_lock_does_not_drop_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As closing any descriptor of the file would."""
    monkeypatch.setattr(daemon, "DRIVER_PID", tmp_path / "driver.pid")
    look = "import sys, pathlib; from virtcpr.host.processes.proc import lock_owner; "
    look += "print(lock_owner(pathlib.Path(sys.argv[1])))"

    def owner() -> str:
        command = [sys.executable, "-c", look, str(tmp_path / "driver.pid")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with DriverLock():
        assert daemon.process() is None
        with pytest.raises(HostError, match="QEMU driver isn't running"):
            daemon.running()
        assert owner() == str(os.getpid())
    assert owner() == "None"
    assert daemon.process() is None


def test_after_nested_locks_the_next_holder_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The inner one's end gave the lock up for both; the guardian of a session has two."""
    monkeypatch.setattr(daemon, "DRIVER_PID", tmp_path / "driver.pid")
    with DriverLock():
        with DriverLock():
            pass
        holder = f"import fcntl, sys; f = open({str(tmp_path / 'driver.pid')!r}, 'w'); fcntl.lockf(f, 2 | 4, 1, 0)"
        script = f"{holder}; print('', flush=True); sys.stdin.read()"
        with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            other.stdout.readline()
            seen = daemon.process()
            other.kill()
    assert seen is not None
    assert seen.pid == other.pid


def test_a_lock_that_is_still_held_does_not_keep_the_daemon_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guardian had it, and nothing was to be settled."""
    monkeypatch.setattr(daemon, "DRIVER_PID", tmp_path / "driver.pid")
    owners: list[Process | None] = []

    class Stopped:
        def start(self) -> None:
            with subprocess.Popen([sys.executable, "-c", LOCKS, str(tmp_path / "driver.pid")]) as other:
                owners.append(None if other.wait() else Process(other.pid, ""))

    monkeypatch.setattr(guard, "recipe", dict)
    monkeypatch.setattr(daemon, "from_recipe", lambda _: Stopped())
    with DriverLock():
        blackout.start_if_stopped()
    assert owners != [None]


LOCKS = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'w'), 2 | 4, 1, 0)"


def test_what_keeps_it_from_locking_is_told(child: guard.Child, tmp_path: Path) -> None:
    holder = f"import fcntl, sys; f = open({str(tmp_path / 'driver.pid')!r}, 'w'); fcntl.lockf(f, 2 | 4, 1, 0)"
    script = f"{holder}; print('', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(HostError, match=rf"was started again meanwhile \(process {other.pid}\)"), child.lock():
            pass
        other.kill()
    child.disarm()
