"""libvirt's hooks: put in their place, renewed, taken away; nobody else's file is touched."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from virtcpr.errors import HostError
from virtcpr.host import hooks
from virtcpr.model import HookState


def state(directory: Path) -> HookState:
    (hook,) = hooks.status(directory)
    return hook.state


def test_there_and_away_again(tmp_path: Path) -> None:
    theirs = tmp_path / "daemon.d/theirs"
    theirs.parent.mkdir()
    theirs.write_text("#!/bin/sh\n")
    assert state(tmp_path) is HookState.MISSING

    (hook,) = hooks.install(tmp_path)

    assert hook.state is HookState.INSTALLED
    path = Path(hook.path)
    assert path.stat().st_mode & 0o777 == 0o755
    assert "@VIRTCPR@" not in path.read_text()
    path.write_text(path.read_text() + "# older\n")
    assert state(tmp_path) is HookState.OUTDATED
    assert hooks.install(tmp_path)[0].state is HookState.INSTALLED
    assert hooks.remove(tmp_path)[0].state is HookState.MISSING
    assert [one.name for one in theirs.parent.iterdir()] == ["theirs"]


def test_somebody_elses_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "daemon.d/virtcpr"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\nexit 0\n")
    assert state(tmp_path) is HookState.FOREIGN
    with pytest.raises(HostError, match="isn't virtcpr's"):
        hooks.install(tmp_path)
    assert hooks.remove(tmp_path)[0].state is HookState.FOREIGN
    assert path.read_text() == "#!/bin/sh\nexit 0\n"


@pytest.mark.parametrize("operation", ["start", "shutdown", "reload"])
def test_without_a_journal_it_starts_nothing(tmp_path: Path, operation: str) -> None:
    (hook,) = hooks.install(tmp_path)
    path = Path(hook.path)
    path.write_text(path.read_text().replace("/run/virtcpr", str(tmp_path / "run")))
    trace = subprocess.run(
        ["sh", "-x", str(path), "-", operation, "-", operation], capture_output=True, text=True, check=False
    )
    assert (trace.returncode, trace.stdout) == (0, "")
    assert "recover" not in trace.stderr
    assert "flock" not in trace.stderr
