"""The note of a package manager: taken, put back, finished, and what a second one does meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtcpr.actions.auto import pending
from virtcpr.actions.auto.pending import Note
from virtcpr.errors import HostError


@pytest.fixture
def timer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What systemctl was told of the timer."""
    said: list[str] = []
    monkeypatch.setattr(pending, "SYSTEMD", tmp_path)
    monkeypatch.setattr(pending, "run", lambda argv: said.append(" ".join(argv[1:])))
    return said


START, STOP = (f"--no-block {verb} virtcpr-auto.timer" for verb in ("start", "stop"))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_taken_and_finished(tmp_path: Path, timer: list[str]) -> None:
    (tmp_path / "pending").write_text("qemu\n")
    note = Note(tmp_path)
    assert note.take()
    assert (names(tmp_path), note.there(), note.told) == (["pending.taken"], True, False)
    assert not note.take()
    note.finish()
    assert (names(tmp_path), timer) == ([], [STOP])


def test_one_that_comes_meanwhile_stays(tmp_path: Path, timer: list[str]) -> None:
    (tmp_path / "pending").write_text("first\n")
    note = Note(tmp_path)
    note.take()
    (tmp_path / "pending").write_text("second\n")
    note.finish()
    assert (names(tmp_path), timer) == (["pending"], [STOP, START])


def test_put_back(tmp_path: Path, timer: list[str]) -> None:
    (tmp_path / "pending").write_text("qemu\n")
    note = Note(tmp_path)
    note.take()
    note.put_back()
    assert (names(tmp_path), (tmp_path / "pending").read_text(), timer) == (["pending"], "qemu\n", [START])


def test_a_newer_one_is_not_lost_when_it_is_put_back(tmp_path: Path, timer: list[str]) -> None:
    (tmp_path / "pending").write_text("first\n")
    note = Note(tmp_path)
    note.take()
    note.mark_told()
    (tmp_path / "pending").write_text("second\n")
    note.put_back()
    assert (names(tmp_path), (tmp_path / "pending").read_text()) == (["pending"], "second\n")


def test_what_was_told_is_told_of_this_note_only(tmp_path: Path, timer: list[str]) -> None:
    (tmp_path / "pending").write_text("qemu\n")
    Note(tmp_path).take()
    Note(tmp_path).mark_told()
    Note(tmp_path).put_back()
    again = Note(tmp_path)
    assert again.take()
    assert again.told
    (tmp_path / "pending").write_text("qemu\n")
    assert again.take()
    assert not again.told


def test_one_that_a_killed_process_had_taken(tmp_path: Path, timer: list[str]) -> None:
    (tmp_path / "pending.taken").write_text("qemu\n")
    note = Note(tmp_path)
    assert not note.take()
    assert note.there()


def test_none_at_all(tmp_path: Path, timer: list[str]) -> None:
    note = Note(tmp_path)
    assert not note.take()
    assert not note.there()
    assert not note.told
    note.put_back()
    assert names(tmp_path) == []


def test_one_that_cannot_be_taken(tmp_path: Path, timer: list[str]) -> None:
    (tmp_path / "pending").mkdir()
    (tmp_path / "pending.taken").write_text("")
    with pytest.raises(HostError, match=r"pending can't be taken: "):
        Note(tmp_path).take()


def test_a_timer_that_does_not_obey(
    tmp_path: Path, timer: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(argv: list[str]) -> None:
        raise HostError(f"{' '.join(argv)}: no")

    monkeypatch.setattr(pending, "run", fails)
    Note(tmp_path).finish()
    assert "systemctl --no-block stop virtcpr-auto.timer: no" in caplog.text


def test_without_systemd(tmp_path: Path, timer: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "SYSTEMD", tmp_path / "none")
    Note(tmp_path).finish()
    assert timer == []
