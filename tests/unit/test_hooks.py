"""libvirt's hooks: put in their place, renewed, taken away; nobody else's file is touched."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from virtcpr.errors import HostError
from virtcpr.host import hooks
from virtcpr.model import HookAction, HookState
from virtcpr.swap import held
from virtcpr.swap import hooks as command

PLACES = ("daemon.d/virtcpr", "qemu.d/virtcpr")
DAEMON, QEMU = PLACES


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


def run(tmp_path: Path, place: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """A hook as libvirt calls it, traced, with its /run elsewhere."""
    hooks.install(tmp_path)
    path = tmp_path / place
    path.write_text(path.read_text().replace("/run/virtcpr", str(tmp_path / "run")))
    return subprocess.run(["sh", "-x", str(path), *arguments], input=stdin, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("operation", ["start", "shutdown", "reload"])
def test_without_a_journal_it_starts_nothing(tmp_path: Path, operation: str) -> None:
    trace = run(tmp_path, DAEMON, "-", operation, "-", operation)
    assert (trace.returncode, trace.stdout) == (0, "")
    assert "recover" not in trace.stderr
    assert "flock" not in trace.stderr


OPERATIONS = ("prepare", "start", "started", "stopped", "release", "migrate", "restore", "reconnect", "attach")


def hold(tmp_path: Path, name: str) -> None:
    (tmp_path / "run/held").mkdir(parents=True)
    (tmp_path / "run/held" / f"{name}.xml").touch()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_nobody_is_refused_where_nothing_is_held(tmp_path: Path, operation: str) -> None:
    """Nor is anything answered: what `migrate` and `restore` answer would become the domain's XML."""
    done = run(tmp_path, QEMU, "web", operation, "begin", "-", stdin="<domain/>")
    assert (done.returncode, done.stdout) == (0, "")


def test_a_second_start_of_a_guest_that_runs_is_refused(tmp_path: Path) -> None:
    hold(tmp_path, "my web $HOME")
    done = run(tmp_path, QEMU, "my web $HOME", "prepare", "begin", "-", stdin="<domain/>" * 100_000)
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        "virtcpr: my web $HOME runs already: an interrupted swap holds libvirt's record of it aside; "
        "run: virtcpr recover 'my web $HOME'" in done.stderr.splitlines()
    )


@pytest.mark.parametrize("operation", OPERATIONS[1:])
def test_only_the_start_is_refused(tmp_path: Path, operation: str) -> None:
    """A hook that fails at `reconnect` would have libvirt kill the guest."""
    hold(tmp_path, "web")
    assert run(tmp_path, QEMU, "web", operation, "begin", "-").returncode == 0


def test_another_domain_may_start(tmp_path: Path) -> None:
    hold(tmp_path, "web")
    assert run(tmp_path, QEMU, "we", "prepare", "begin", "-").returncode == 0


def test_hooks_stay_while_a_guest_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them libvirt would start it a second time."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(held, "names", lambda: ["web"])
    monkeypatch.setattr(hooks, "remove", lambda: pytest.fail("removed"))
    with pytest.raises(HostError, match=r"web: the guest runs out of libvirt's sight.*nothing was removed") as refused:
        command.run(HookAction.REMOVE)
    assert refused.value.hint == "virtcpr recover --all, then try again"
