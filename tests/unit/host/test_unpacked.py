"""A QEMU that isn't installed: packages, unpacked, and what runs from them.  dpkg's own tools make them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from virtcpr.errors import HostError
from virtcpr.host.qemu import unpacked

EMULATOR = "/usr/bin/qemu-system-x86_64"
SAYS = '#!/bin/sh\necho "$QEMU_MODULE_DIR|$LD_LIBRARY_PATH|$*"\n'
Package = Callable[..., Path]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cache"
    monkeypatch.setattr(unpacked, "PLACE", path)
    return path


@pytest.fixture
def package(tmp_path: Path) -> Package:
    def build(name: str, **files: str) -> Path:
        """``files``: path, with two underscores for a slash, and content."""
        root = tmp_path / name
        (root / "DEBIAN").mkdir(parents=True)
        control = f"Package: {name}\nVersion: 1:2\nArchitecture: all\nMaintainer: x <x@localhost>\nDescription: x\n"
        (root / "DEBIAN/control").write_text(control)
        for path, content in files.items():
            file = root / path.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
            file.chmod(0o4755)
        made = tmp_path / f"{name}.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "--build", root, made], check=True, capture_output=True)
        return made

    return build


def emulator(package: Package) -> Path:
    return package("qemu-x", **{"usr__bin__qemu-system-x86_64": SAYS, "usr__lib__m__qemu__a.so": "module"})


def said(program: str) -> list[str]:
    done = subprocess.run([program, "-S"], capture_output=True, text=True, check=True)
    return done.stdout.strip().split("|")


def test_it_runs_with_its_own_modules_libraries_and_firmware(package: Package, place: Path) -> None:
    files = [
        emulator(package),
        package("firmware-x", usr__share__seabios__bios="rom"),
        package("libslirp-x", **{"usr__lib__m__libslirp.so.0": "library"}),
    ]
    with unpacked.unpack(files) as candidate:
        root = candidate.root
        modules, libraries, arguments = said(candidate.emulator(EMULATOR))
        assert modules == f"{root}/usr/lib/m/qemu"
        assert libraries == f"{root}/usr/lib/m"
        assert arguments.startswith(f"-L {root}/usr/share/seabios")
        assert arguments.endswith(" -S")
    assert list(place.iterdir()) == []


def test_without_libraries_it_uses_the_hosts(package: Package) -> None:
    with unpacked.unpack([emulator(package)]) as candidate:
        assert said(candidate.emulator(EMULATOR))[1] == ""


def test_everybody_can_run_it_with_no_privileges_of_its_own(package: Package) -> None:
    with unpacked.unpack([emulator(package)]) as candidate:
        program = candidate.root / EMULATOR.lstrip("/")
        assert program.stat().st_mode & 0o7777 == 0o755
        assert candidate.root.stat().st_mode & 0o7777 == 0o755
        assert candidate.root.parent.stat().st_mode & 0o7777 == 0o755


def test_everybody_can_run_it_with_roots_umask(package: Package) -> None:
    files = [emulator(package)]
    before = os.umask(0o077)
    try:
        with unpacked.unpack(files) as candidate:
            started = Path(candidate.emulator(EMULATOR))
            for path in (started, started.parent, candidate.root, candidate.root.parent):
                assert path.stat().st_mode & 0o777 == 0o755, path
    finally:
        os.umask(before)


def test_what_they_have(package: Package) -> None:
    with unpacked.unpack([emulator(package)]) as candidate:
        assert candidate.has(EMULATOR)
        assert not candidate.has("/usr/bin/qemu-system-aarch64")
        assert not candidate.has("/usr/bin")


def test_a_file_that_is_no_package(tmp_path: Path, place: Path) -> None:
    file = tmp_path / "web.deb"
    file.write_text("no archive")
    with pytest.raises(HostError, match=r"dpkg-deb --extract .*web.deb"), unpacked.unpack([file]):
        pass
    assert list(place.iterdir()) == []


def test_what_a_killed_one_has_left_is_removed_and_what_is_in_use_is_not(package: Package, place: Path) -> None:
    left = place / "candidate-left"
    left.mkdir(parents=True)
    (left / "file").touch()
    with unpacked.unpack([emulator(package)]) as first, unpacked.unpack([emulator_again(package)]) as second:
        assert not left.exists()
        assert first.has(EMULATOR)
        assert second.has(EMULATOR)
    assert list(place.iterdir()) == []


def emulator_again(package: Package) -> Path:
    return package("qemu-y", **{"usr__bin__qemu-system-x86_64": SAYS})


def test_two_at_the_same_moment(package: Package, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is being made isn't taken for something left: the other waits until it is in use."""
    made = emulator(package)
    seen: list[bool] = []

    class Made(TemporaryDirectory[str]):
        """Between this and its lock another process looks for what is left."""

        def __enter__(self) -> str:
            name = super().__enter__()
            looks = (
                f"import fcntl, os; fcntl.flock(os.open({str(place)!r}, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)"
            )
            seen.append(subprocess.run([sys.executable, "-c", looks], capture_output=True, check=False).returncode != 0)
            return name

    monkeypatch.setattr(unpacked, "TemporaryDirectory", Made)
    with unpacked.unpack([made]) as files:
        assert files.has(EMULATOR)
    assert seen == [True]
