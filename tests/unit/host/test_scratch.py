"""The directory of a scratch QEMU."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from virtcpr.errors import HostError
from virtcpr.host.processes.proc import User
from virtcpr.host.qemu import scratch


def test_a_directory_that_cannot_be_made_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").write_text("in the way")
    monkeypatch.setattr(scratch, "RUN_DIR", tmp_path / "run")
    with (
        pytest.raises(HostError, match=r"no scratch directory can be made in .*: File exists"),
        scratch.directory(User(os.getuid(), os.getgid())),
    ):
        pass


def test_an_error_in_it_is_not_the_directorys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time-out is an OSError, too."""
    monkeypatch.setattr(scratch, "RUN_DIR", tmp_path)
    with pytest.raises(TimeoutError), scratch.directory(User(os.getuid(), os.getgid())):
        raise TimeoutError
    assert list(tmp_path.iterdir()) == []
