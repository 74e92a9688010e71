"""What the lab and the host build once and keep: under which name, and what becomes of a build that failed."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from tests.lab.support import image, kept
from tests.lab.support.kept import LabError
from tests.paths import LAB


def test_a_change_of_a_source_is_another_key(tmp_path: Path) -> None:
    (tmp_path / "packages").write_text("qemu")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/make").write_text("make")
    sources = (tmp_path / "packages", tmp_path / "scripts")
    first = kept.key("a", tmp_path, *sources)
    assert kept.key("b", tmp_path, *sources) != first
    (tmp_path / "scripts/make").write_text("make it")
    assert kept.key("a", tmp_path, *sources) != first
    (tmp_path / "packages").unlink()
    with pytest.raises(FileNotFoundError):
        kept.key("a", tmp_path, *sources)


def test_the_image_is_named_after_sources_that_are_there() -> None:
    mirrors = image.Mirrors("debian", "security")
    name = kept.key(repr((image.SUITE, mirrors, platform.machine())), LAB, *image.SOURCES)
    assert image.root(Path("/store"), mirrors) == Path("/store/images") / name
    assert Path(image.__file__) in image.SOURCES


def test_it_is_built_once_and_what_is_older_goes(tmp_path: Path) -> None:
    made = []

    def make(part: Path) -> None:
        made.append(part)
        (part / "root").write_text("")

    for name in ("old", "new", "new"):
        assert kept.built(tmp_path / "images" / name, make) == tmp_path / "images" / name
    assert [part.name for part in made] == ["old.part", "new.part"]
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["new"]


def test_a_build_that_failed_does_not_count(tmp_path: Path) -> None:
    def fail(part: Path) -> None:
        (part / "half").write_text("")
        kept.run_logged(["sh", "-c", "echo no room; exit 3"], tmp_path / "log", "building")

    kept.built(tmp_path / "images/old", lambda part: None)
    with pytest.raises(LabError, match=r"(?s)building failed \(.*/log has it all\):\nno room$"):
        kept.built(tmp_path / "images/new", fail)
    assert (tmp_path / "images/old").is_dir(), "what worked before is there still"
    kept.built(tmp_path / "images/new", lambda part: None)
    assert list((tmp_path / "images/new").iterdir()) == []


def test_a_store_has_one_user_at_a_time(tmp_path: Path) -> None:
    with kept.locked(tmp_path / "store"):
        taken = subprocess.run(["flock", "--nonblock", tmp_path / "store/lock", "true"], check=False)
        assert taken.returncode == 1
    assert subprocess.run(["flock", "--nonblock", tmp_path / "store/lock", "true"], check=False).returncode == 0
