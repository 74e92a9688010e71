"""Files of ours: nobody else can look into them, nor into the directories above that are made for them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from virtcpr.errors import HostError
from virtcpr.host.files import atomic
from virtcpr.host.system.lock import Lock

WRITERS: tuple[Callable[[Path], object], ...] = (
    lambda path: atomic.write_private(path, "text"),
    lambda path: atomic.append_durably(path, "text"),
    lambda path: atomic.keep(path.parent, path.name, "text"),
)


@pytest.fixture(autouse=True)
def _open_handed() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(top: Path) -> dict[str, int]:
    return {str(path.relative_to(top)): path.stat().st_mode & 0o777 for path in top.rglob("*")}


@pytest.mark.parametrize("write", WRITERS)
def test_what_is_written_is_its_owners_alone(tmp_path: Path, write: Callable[[Path], object]) -> None:
    tmp_path.chmod(0o755)
    write(tmp_path / "virtcpr/saved/file")
    assert modes(tmp_path) == {"virtcpr": 0o700, "virtcpr/saved": 0o700, "virtcpr/saved/file": 0o600}
    assert tmp_path.stat().st_mode & 0o777 == 0o755, "what was there is as it was"


def test_the_lock_is_its_owners_alone(tmp_path: Path) -> None:
    with Lock(tmp_path / "a/virtcpr"):
        assert modes(tmp_path) == {"a": 0o700, "a/virtcpr": 0o700, "a/virtcpr/lock": 0o600}


@pytest.mark.parametrize("write", WRITERS)
def test_no_link_is_followed(tmp_path: Path, write: Callable[[Path], object]) -> None:
    target, path = tmp_path / "target", tmp_path / "file"
    target.write_text("theirs")
    path.symlink_to(target)
    with contextlib.suppress(HostError):
        write(path)
    assert target.read_text() == "theirs"


def test_a_public_file_replaces_a_link_and_follows_none(tmp_path: Path) -> None:
    """Its directory may be writable for others."""
    secret = tmp_path / "secret"
    secret.write_text("s")
    path = tmp_path / "virtcpr.prom"
    path.symlink_to(secret)
    atomic.write_public(path, "x 1\n")
    assert (secret.read_text(), path.read_text(), path.is_symlink()) == ("s", "x 1\n", False)


def test_a_line_after_one_that_a_full_disk_has_torn(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"n": 1}\n{"n": 2, "te')
    atomic.append_durably(path, '{"n": 3}')
    atomic.append_durably(path, '{"n": 4}')
    assert path.read_text() == '{"n": 1}\n{"n": 2, "te\n{"n": 3}\n{"n": 4}\n'
