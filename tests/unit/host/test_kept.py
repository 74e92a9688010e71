"""Builds that are kept: what is copied, what isn't trusted, what is removed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtcpr.errors import HostError
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu import kept


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "state/builds"
    monkeypatch.setattr(kept, "DIRECTORY", place)
    return place


@pytest.fixture
def firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the program looks for firmware; one file is a link out of it."""
    directory = tmp_path / "share/qemu"
    directory.mkdir(parents=True)
    (tmp_path / "vgabios.bin").write_bytes(b"rom")
    (directory / "vgabios.bin").symlink_to(tmp_path / "vgabios.bin")
    (directory / "gone.bin").symlink_to(tmp_path / "gone.bin")

    def directories(program: str) -> list[str]:
        bundle = f"{program.removesuffix('/qemu')}/qemu-bundle"
        return [f"{bundle}{directory}", "/usr/share/elsewhere", f"{bundle}{tmp_path}/share/none"]

    monkeypatch.setattr(kept, "firmware_directories", directories)
    return directory


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[Process]:
    """A program that runs, and was deleted."""
    program = tmp_path / "bin/qemu"
    program.parent.mkdir()
    shutil.copy("/bin/sleep", program)
    child = subprocess.Popen([program, "60"])
    program.unlink()
    yield Process.of(child.pid)
    child.kill()
    child.wait()


def mode(path: str | Path) -> int:
    return os.stat(path).st_mode & 0o777


def test_a_deleted_program_and_its_firmware(qemu: Process, firmware: Path, place: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        kept.keep([qemu], "sha256:abc", "10.0.2 (Debian)", "Debian")
    finally:
        os.umask(before)
    (one,) = kept.builds()
    assert (one.build, one.version) == ("sha256:abc", "10.0.2 (Debian)")
    root = place / "sha256-abc"
    assert one.program == f"{root}/qemu"
    assert one.origin == kept.installed(one.program) == f"{tmp_path}/bin/qemu"
    assert kept.installed("/usr/bin/qemu") == "/usr/bin/qemu"
    assert Path(one.program).read_bytes() == Path("/bin/sleep").read_bytes()
    copied = Path(f"{root}/qemu-bundle{firmware}")
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == {"vgabios.bin": b"rom"}
    assert not (copied / "vgabios.bin").is_symlink()
    assert not list(root.rglob("elsewhere"))
    assert (mode(root), mode(one.program), mode(copied / "vgabios.bin")) == (0o755, 0o755, 0o644)
    assert mode(place) & 0o066 == 0
    assert kept.size(one) > len(b"rom")
    kept.remove(one)
    assert list(place.iterdir()) == []


def test_it_is_kept_once(qemu: Process, firmware: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_now", lambda: "2026-01-01T00:00:00+00:00")
    kept.keep([qemu], "a", "10.0.2", "Debian")
    monkeypatch.setattr(kept, "_now", lambda: "2026-02-01T00:00:00+00:00")
    kept.keep([qemu], "a", "10.0.2", "Debian")
    (one,) = kept.builds()
    assert one.kept_at == "2026-02-01T00:00:00+00:00"
    assert Path(one.program).exists()


def test_what_runs_is_known(qemu: Process, firmware: Path, tmp_path: Path) -> None:
    assert str(tmp_path / "bin/qemu") in kept.running()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user's file")
def test_a_program_of_somebody_else_is_not_kept(tmp_path: Path, firmware: Path, place: Path) -> None:
    program = tmp_path / "bin/qemu"
    program.parent.mkdir()
    shutil.copy("/bin/sleep", program)
    os.chown(program, 1000, 1000)
    child = subprocess.Popen([program, "60"])
    try:
        with pytest.raises(HostError, match=r"others than root can write to .*: it isn't kept"):
            kept.keep([Process.of(child.pid)], "a", "10.0.2", "Debian")
    finally:
        child.kill()
        child.wait()
    assert list(place.iterdir()) == []


def test_one_that_others_could_have_changed_counts_as_none(qemu: Process, firmware: Path) -> None:
    kept.keep([qemu], "a", "10.0.2", "Debian")
    (one,) = kept.builds()
    os.chmod(one.program, 0o777)
    assert kept.builds() == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"build": "a"}'])
def test_a_record_that_makes_no_sense_counts_as_none(place: Path, text: str) -> None:
    (place / "a").mkdir(parents=True)
    (place / "a" / kept.RECORD).write_text(text)
    assert kept.builds() == []


def test_half_a_build_is_removed(place: Path) -> None:
    (place / f"{kept.HALF}x/usr").mkdir(parents=True)
    kept.remove_halves()
    assert list(place.iterdir()) == []


def test_no_room(qemu: Process, firmware: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(HostError, match=r"QEMU 10.0.2 can't be kept in .*/builds: No space left on device"):
        kept.keep([qemu], "a", "10.0.2", "Debian")
    assert list(place.iterdir()) == []
