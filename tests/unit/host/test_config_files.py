"""The configuration's files: which are read, in which order, and which aren't trusted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from virtcpr.errors import HostError
from virtcpr.host.files import config_files


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    directory = tmp_path / "etc"
    (directory / "conf.d").mkdir(parents=True)
    directory.chmod(0o755)
    (directory / "conf.d").chmod(0o755)
    for name in ("virtcpr.toml", "conf.d/20.toml", "conf.d/10.toml", "conf.d/30.toml.bak", "conf.d/.40.toml"):
        (directory / name).write_text(f"# {name}\n")
        (directory / name).chmod(0o644)
    return directory


def test_the_order(etc: Path) -> None:
    names = ("virtcpr.toml", "conf.d/10.toml", "conf.d/20.toml")
    assert config_files.documents(etc) == [(str(etc / name), f"# {name}\n") for name in names]


def test_what_is_missing_is_left_out(etc: Path, tmp_path: Path) -> None:
    (etc / "virtcpr.toml").unlink()
    assert [Path(name).name for name, _ in config_files.documents(etc)] == ["10.toml", "20.toml"]
    assert config_files.documents(tmp_path / "nowhere") == []


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
@pytest.mark.parametrize("name", ["virtcpr.toml", "conf.d/20.toml"])
def test_a_file_that_others_can_write(etc: Path, name: str, mode: int) -> None:
    (etc / name).chmod(mode)
    with pytest.raises(HostError, match=f"{name} can be written by others than root; nothing was done") as refused:
        config_files.documents(etc)
    assert refused.value.hint == f"chown root {etc / name}; chmod go-w {etc / name}"


@pytest.mark.parametrize("name", ["", "conf.d"])
def test_a_directory_that_others_can_write(etc: Path, name: str) -> None:
    (etc / name).chmod(0o775)
    with pytest.raises(HostError, match="can be written by others"):
        config_files.documents(etc)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_roots_files_count_for_everybody(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a user's own guests, too, the builds are kept as the administrator says."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert len(config_files.documents(etc)) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_somebody_elses_file(etc: Path) -> None:
    os.chown(etc / "virtcpr.toml", 1000, 1000)
    with pytest.raises(HostError, match="can be written by others"):
        config_files.documents(etc)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_link_to_somebody_elses_file(etc: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.toml"
    theirs.write_text('auto = "apply"')
    os.chown(theirs, 1000, 1000)
    (etc / "virtcpr.toml").unlink()
    (etc / "virtcpr.toml").symlink_to(theirs)
    with pytest.raises(HostError, match="can be written by others"):
        config_files.documents(etc)


def test_a_link_to_nowhere_is_not_a_missing_file(etc: Path) -> None:
    (etc / "virtcpr.toml").unlink()
    (etc / "virtcpr.toml").symlink_to("/no/such/file")
    with pytest.raises(HostError, match="can't be read: No such file or directory; nothing was done"):
        config_files.documents(etc)


def test_a_file_that_is_no_text(etc: Path) -> None:
    (etc / "virtcpr.toml").write_bytes(b"\xff")
    with pytest.raises(HostError, match="isn't text in UTF-8"):
        config_files.documents(etc)
