"""libvirt's hooks: put in their place, renewed, taken away; nobody else's file is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from virtcpr.actions import hooks as command
from virtcpr.actions.records import journal, pending, quarantine, saves
from virtcpr.errors import HostError
from virtcpr.host.libvirt import calls, connection, daemon, hooks
from virtcpr.host.libvirt.connection import Domain
from virtcpr.host.processes.proc import Process
from virtcpr.host.system import apparmor, selinux
from virtcpr.model import HookAction, HookState

PLACES = ("daemon.d/virtcpr", "qemu.d/virtcpr")
DAEMON, QEMU = PLACES
UUID = "6b1a0f5e-0d0c-4d5a-9a5e-000000000001"


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is interrupted, and nobody else at work."""
    monkeypatch.setattr(journal, "pending", list)
    monkeypatch.setattr(command, "Lock", nullcontext)


def states(directory: Path) -> list[HookState]:
    return [hook.state for hook in hooks.status(directory)]


def test_there_and_away_again(tmp_path: Path) -> None:
    for place in PLACES:
        theirs = tmp_path / place
        theirs.parent.mkdir()
        theirs.with_name("theirs").write_text("#!/bin/sh\n")
    assert states(tmp_path) == [HookState.MISSING] * 2

    installed = hooks.install(tmp_path)

    assert [hook.path for hook in installed] == [str(tmp_path / place) for place in PLACES]
    for hook in installed:
        assert hook.state is HookState.INSTALLED
        path = Path(hook.path)
        assert path.stat().st_mode & 0o777 == 0o755
        assert "@VIRTCPR@" not in path.read_text()
        path.write_text(path.read_text() + "# older\n")
    assert states(tmp_path) == [HookState.OUTDATED] * 2
    assert {hook.state for hook in hooks.install(tmp_path)} == {HookState.INSTALLED}
    assert {hook.state for hook in hooks.remove(tmp_path)} == {HookState.MISSING}
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["theirs", "theirs"]


@pytest.mark.parametrize("place", PLACES)
def test_somebody_elses_file_stays(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    path.parent.mkdir()
    path.write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(HostError, match="isn't virtcpr's"):
        hooks.install(tmp_path)
    with pytest.raises(HostError, match="isn't virtcpr's"):
        hooks.put("libvirt-daemon" if place == DAEMON else "libvirt-qemu", tmp_path)
    assert HookState.FOREIGN in [hook.state for hook in hooks.remove(tmp_path)]
    assert path.read_text() == "#!/bin/sh\nexit 0\n"
    assert len(list(tmp_path.glob("*/*"))) == 1


def test_one_alone_is_put_in_its_place(tmp_path: Path) -> None:
    hooks.put("libvirt-qemu", tmp_path)
    assert states(tmp_path) == [HookState.MISSING, HookState.INSTALLED]
    before = (tmp_path / QEMU).stat().st_ino
    hooks.put("libvirt-qemu", tmp_path)
    assert (tmp_path / QEMU).stat().st_ino == before


def command_in(directory: Path) -> str:
    """How the hook runs virtcpr."""
    (line,) = [line for line in (directory / DAEMON).read_text().splitlines() if " -q recover --all" in line]
    return line.partition(" -q recover")[0]


@pytest.fixture
def virtualenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virtualenv in /opt, as docs/install.md makes it, with the system's Python; AppArmor confines libvirtd."""
    programs = tmp_path / "opt/bin"
    programs.mkdir(parents=True)
    (programs / "virtcpr").touch(mode=0o755)
    (programs / "python3").symlink_to("/usr/bin/env")
    monkeypatch.setattr(sys, "argv", [str(programs / "virtcpr"), "hooks", "install"])
    monkeypatch.setattr(sys, "executable", str(programs / "python3"))
    profiles = tmp_path / "profiles"
    profiles.write_text("virt-aa-helper (enforce)\nlibvirtd//qemu_bridge_helper (enforce)\nlibvirtd (enforce)\n")
    monkeypatch.setattr(apparmor, "LOADED", profiles)
    return programs


def test_from_a_virtualenv_the_hook_runs_the_system_s_python(tmp_path: Path, virtualenv: Path) -> None:
    """libvirtd's AppArmor profile lets it run programs in /usr/bin, and sees what a link points to; a script in /opt
    it doesn't."""
    hooks.install(tmp_path)
    assert command_in(tmp_path) == f"{virtualenv}/python3 -I -m virtcpr"


def test_a_package_s_script_is_run_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, virtualenv: Path) -> None:
    monkeypatch.setattr(hooks, "RUNNABLE", (str(virtualenv),))
    hooks.install(tmp_path)
    assert command_in(tmp_path) == f"{virtualenv}/virtcpr"


def test_another_program_is_not_taken_for_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python3 -m virtcpr`, the guardian: sys.argv[0] is a file that can't be executed."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/env"])
    hooks.install(tmp_path)
    assert command_in(tmp_path) == f"{sys.executable} -I -m virtcpr"


@pytest.mark.parametrize("put", [hooks.install, lambda directory: hooks.put("libvirt-daemon", directory)])
def test_a_python_that_libvirtd_may_not_run(tmp_path: Path, virtualenv: Path, put: Callable[[Path], object]) -> None:
    """`venv --copies`, or a Python in /usr/local: the hook would fail when it is needed."""
    (virtualenv / "python3").unlink()
    (virtualenv / "python3").touch(mode=0o755)
    with pytest.raises(HostError, match=f"virtcpr couldn't run {virtualenv}/python3: AppArmor confines") as refused:
        put(tmp_path)
    assert refused.value.message.endswith("lets it run only programs in /usr/bin and /usr/sbin; no hook was written")
    assert refused.value.hint == (
        "install virtcpr into a virtualenv of the system's Python: /usr/bin/python3 -m venv, without --copies"
    )
    assert not (tmp_path / DAEMON).exists()
    hooks.put("libvirt-qemu", tmp_path)  # needs no Python


@pytest.mark.parametrize("profiles", ["", "libvirtd (complain)\n", "virtqemud-x (enforce)\n", None])
def test_where_nothing_confines_libvirtd_any_python_does(
    tmp_path: Path, virtualenv: Path, profiles: str | None
) -> None:
    (virtualenv / "python3").unlink()
    (virtualenv / "python3").touch(mode=0o755)
    if profiles is None:
        (tmp_path / "profiles").unlink()
    else:
        (tmp_path / "profiles").write_text(profiles)
    hooks.install(tmp_path)
    assert command_in(tmp_path) == f"{virtualenv}/python3 -I -m virtcpr"


def test_profiles_that_cannot_be_read_may_confine_it(tmp_path: Path, virtualenv: Path) -> None:
    (virtualenv / "python3").unlink()
    (virtualenv / "python3").touch(mode=0o755)
    (tmp_path / "profiles").unlink()
    (tmp_path / "profiles").mkdir()
    with pytest.raises(HostError, match="AppArmor confines"):
        hooks.install(tmp_path)


def test_the_command_in_the_hook_works(tmp_path: Path) -> None:
    hooks.install(tmp_path)
    command = f"cd /; env -i {command_in(tmp_path)} --version"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_hooks_stay_while_a_guest_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them libvirt would start it a second time."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(quarantine, "held", lambda: {UUID: "web"})
    monkeypatch.setattr(hooks, "remove", lambda: pytest.fail("removed"))
    with pytest.raises(
        HostError, match=r"web: the guest runs, but libvirt doesn't see it.*nothing was removed"
    ) as refused:
        command.run(HookAction.REMOVE)
    assert refused.value.hint == "run 'virtcpr recover --all', then try again"


def test_hooks_stay_while_a_swap_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is seen before the lock is taken: libvirt's hook leaves a swap to whoever has that."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(journal, "pending", lambda: [UUID, "other"])
    monkeypatch.setattr(pending, "domains", lambda: {UUID: "web", "other": ""})
    monkeypatch.setattr(command, "Lock", lambda: pytest.fail("locked"))
    monkeypatch.setattr(hooks, "remove", lambda: pytest.fail("removed"))
    with pytest.raises(HostError, match=r"web, other: its swap is interrupted.*nothing was removed") as refused:
        command.run(HookAction.REMOVE)
    assert refused.value.hint == "run 'virtcpr recover --all', then try again"


def test_of_a_guest_that_is_held_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its swap is interrupted, too."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(journal, "pending", lambda: [UUID])
    monkeypatch.setattr(quarantine, "held", lambda: {UUID: "web"})
    with pytest.raises(HostError, match="web: the guest runs, but libvirt doesn't see it"):
        command.run(HookAction.REMOVE)


def test_hooks_stay_while_a_guest_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them libvirt would start it afresh.  One whose record can't be read is called by its UUID."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(quarantine, "held", dict)
    monkeypatch.setattr(saves, "waiting", lambda: [UUID, "broken"])
    monkeypatch.setattr(saves, "readable", lambda: [SimpleNamespace(saved=SimpleNamespace(uuid=UUID, name="web"))])
    monkeypatch.setattr(hooks, "remove", lambda: pytest.fail("removed"))
    with pytest.raises(HostError, match=r"web, broken: the guest is saved.*nothing was removed") as refused:
        command.run(HookAction.REMOVE)
    assert refused.value.hint == "run 'virtcpr restore --all' (with --discard: give up the saved state), then try again"


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> Process:
    """libvirt's daemon, which may run no hook: SELinux."""
    process = Process(1, "1")
    monkeypatch.setattr(hooks, "_labels", [])
    monkeypatch.setattr(daemon, "process", lambda: process)
    monkeypatch.setattr(selinux, "enforced", lambda: True)
    monkeypatch.setattr(selinux, "label_of", lambda who: "virtd_t" if who == process else "free_t")
    monkeypatch.setattr(selinux, "forbids_running", lambda label, path: label == "virtd_t")
    return process


def test_no_hook_is_written_that_selinux_forbids(tmp_path: Path, forbidden: Process) -> None:
    with pytest.raises(HostError, match=r"daemon.d/virtcpr isn't written: .* may not run it \(SELinux\)"):
        hooks.install(tmp_path)
    with pytest.raises(HostError, match=r"qemu.d/virtcpr isn't written: .* would end every guest") as refused:
        hooks.put("libvirt-qemu", tmp_path)
    assert refused.value.hint == "mode transfer needs no hook; docs/security.md, 'SELinux', says more"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(("seen", "written"), [(None, False), (Process(1, "1"), False), (Process(2, "2"), True)])
def test_with_selinux_what_the_daemon_was_counts_while_none_runs(
    tmp_path: Path, forbidden: Process, monkeypatch: pytest.MonkeyPatch, seen: Process | None, written: bool
) -> None:
    """A hook is installed, too, when a record is held aside, and the daemon is down then."""
    if seen is not None:
        hooks.refuse_forbidden(seen, tmp_path)
    monkeypatch.setattr(daemon, "process", lambda: None)
    if written:
        hooks.put("libvirt-qemu", tmp_path)
    else:
        with pytest.raises(HostError, match=r"isn't written: (no daemon runs|libvirt's daemon may not run it)"):
            hooks.put("libvirt-qemu", tmp_path)
    assert (tmp_path / QEMU).exists() is written


def test_a_daemon_that_may_not_run_a_hook_that_is_there(tmp_path: Path, forbidden: Process) -> None:
    """Whoever wrote it; but not a file that libvirt doesn't run."""
    hooks.refuse_forbidden(forbidden, tmp_path)
    (tmp_path / "qemu").touch(mode=0o644)
    hooks.refuse_forbidden(forbidden, tmp_path)
    (tmp_path / "qemu").chmod(0o755)
    with pytest.raises(HostError, match=rf"may not run its hook {tmp_path}/qemu \(SELinux\): it would end every guest"):
        hooks.refuse_forbidden(forbidden, tmp_path)
    hooks.refuse_forbidden(Process(2, "2"), tmp_path)


def test_a_hook_that_cannot_run_is_not_removed_while_it_is_needed(
    forbidden: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook that fails keeps libvirt from starting the domain, too."""
    monkeypatch.setattr(quarantine, "held", lambda: {"uuid": "web"})
    monkeypatch.setattr(hooks, "remove", lambda: pytest.fail("it was removed"))
    with pytest.raises(HostError, match="the hook prevents a second start"):
        command.run(HookAction.REMOVE)


class Refused(Exception):
    """What libvirt's bindings raise."""

    def get_error_message(self) -> str:
        return "cannot acquire state change lock"

    def get_error_code(self) -> int:
        return 1


class Starting:
    """A daemon whose connection finds these domains; the second one's job isn't over in time, unless it has ended."""

    def __init__(self, *, active: bool) -> None:
        self.waited: list[str] = []
        self.active = active

    def __call__(self, uri: str) -> Starting:
        assert uri == "qemu:///system"
        return self

    def __enter__(self) -> Starting:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def domains(self, *, running: bool) -> list[Domain]:
        assert running
        return [self.domain("web"), self.domain("db")]

    def domain(self, name: str) -> Domain:
        def query() -> None:
            self.waited.append(name)
            if name == "db":
                raise Refused

        handle = SimpleNamespace(memoryStats=query, isActive=lambda: self.active)
        return Domain(handle, name, UUID, 1)


@pytest.mark.parametrize("active", [True, False])
def test_hooks_stay_until_a_daemon_that_starts_is_done_with_every_guest(
    monkeypatch: pytest.MonkeyPatch, *, active: bool
) -> None:
    """It ends a guest for which it can't run the hook that it has found."""
    starting, removed = Starting(active=active), list[str]()

    def remove() -> tuple[()]:
        removed.append("removed")
        return ()

    bindings = SimpleNamespace(libvirtError=Refused, VIR_ERR_NO_DOMAIN=42)
    for place in (calls, connection):
        monkeypatch.setattr(place, "bindings", lambda: (bindings, None))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(daemon, "process", lambda: Process(1, "1"))
    monkeypatch.setattr(command, "Connection", starting)
    monkeypatch.setattr(hooks, "remove", remove)
    if active:
        with pytest.raises(HostError, match=r"state change lock; no hook was removed: a daemon that is just starting"):
            command.run(HookAction.REMOVE)
    else:
        command.run(HookAction.REMOVE)
    assert starting.waited == ["web", "db"]
    assert removed == ([] if active else ["removed"])


def test_hooks_are_removed_where_no_daemon_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection would start one."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(daemon, "process", lambda: None)
    monkeypatch.setattr(command, "Connection", lambda uri: pytest.fail(f"connected to {uri}"))
    monkeypatch.setattr(hooks, "remove", tuple)
    assert command.run(HookAction.REMOVE).hooks == ()
