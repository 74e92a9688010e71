"""What made a domain wait goes out of libvirt's status files, and nothing else does."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.unit.support import facts
from tests.unit.support.saved_guest import a_record
from virtcpr.actions.daemon import blackout
from virtcpr.actions.daemon.blackout import DaemonDown
from virtcpr.actions.reboot import strip
from virtcpr.actions.records import pending_strips
from virtcpr.actions.records.pending_strips import Note
from virtcpr.domain import restart
from virtcpr.domain.status import read
from virtcpr.errors import HostError, Unsettled, VirtcprError
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.processes.proc import ticks_since_boot
from virtcpr.model import ExitCode, Keeping
from virtcpr.plan.outcome import exit_code

DOMAIN = facts.domain()


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pending_strips, "DIRECTORY", tmp_path / "leftovers")
    return tmp_path / "leftovers"


@pytest.fixture
def status(tmp_path: Path) -> Path:
    """That of a domain which was started to wait."""
    start, end = DOMAIN.status_xml.index("<domain "), DOMAIN.status_xml.index("</domain>") + len("</domain>")
    text = DOMAIN.status_xml
    path = tmp_path / "d1.xml"
    path.write_text(text[:start] + restart.waiting(text[start:end]).strip() + text[end:])
    path.chmod(0o600)
    return path


def noted(path: Path, uuid: str = DOMAIN.uuid) -> list[Note]:
    one = a_record(path.parent, uuid=uuid, status_path=str(path), taints=("custom-argv", "custom-monitor"))
    pending_strips.note(one.saved)
    return pending_strips.noted()


def test_it_is_noted_and_taken_out(status: Path, directory: Path) -> None:
    notes = noted(status)
    assert [replace(one, since=0) for one in notes] == [
        Note(DOMAIN.uuid, "web", str(status), ("custom-argv", "custom-monitor"))
    ]
    assert 0 < notes[0].since <= ticks_since_boot()
    assert (directory / f"{DOMAIN.uuid}.json").stat().st_mode & 0o777 == 0o600
    before = read(status.read_text())
    assert strip.strip_records(notes) == []
    assert not restart.waits(status.read_text())
    assert read(status.read_text()) == before
    assert status.stat().st_mode & 0o777 == 0o600
    assert pending_strips.noted() == []
    assert sorted(p.name for p in status.parent.iterdir() if p.suffix == ".xml") == ["d1.xml"]


def test_a_domain_that_is_gone_leaves_no_note(status: Path) -> None:
    notes = noted(status)
    status.unlink()
    assert strip.strip_records(notes) == []
    assert pending_strips.noted() == []
    assert not status.exists()


@pytest.mark.parametrize("uuid", [DOMAIN.uuid, DOMAIN.uuid[:-1] + "0"])
def test_one_that_was_started_anew_is_not_touched(status: Path, uuid: str) -> None:
    """Another of its name, or itself, afresh."""
    if uuid == DOMAIN.uuid:
        status.write_text(DOMAIN.status_xml)
    before = status.read_text()
    assert strip.strip_records(noted(status, uuid)) == []
    assert status.read_text() == before
    assert pending_strips.noted() == []


def test_what_cannot_be_done_is_said_and_stays_noted(status: Path, tmp_path: Path) -> None:
    other = DOMAIN.uuid[:-1] + "0"
    broken = tmp_path / "broken.xml"
    broken.write_text("<domstatus")
    notes = [*noted(status), Note(other, "db", str(broken), ())]
    pending_strips.note(a_record(tmp_path, uuid=other, name="db", status_path=str(broken)).saved)
    (problem,) = strip.strip_records(notes)
    assert problem.startswith("db: libvirt's record still has '-incoming defer': ")
    assert [note.name for note in pending_strips.noted()] == ["db"]
    assert not restart.waits(status.read_text())  # one doesn't keep the other


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"uuid": "x", "taints": [], "more": 1}), "\udcff"])
def test_a_note_that_cannot_be_understood(directory: Path, caplog: pytest.LogCaptureFixture, text: str) -> None:
    directory.mkdir()
    (directory / "x.json").touch(mode=0o600)
    (directory / "x.json").write_bytes(text.encode(errors="surrogateescape"))
    (directory / "x.json.part").touch()
    with caplog.at_level(logging.WARNING):
        assert pending_strips.noted() == []
    assert "x.json can't be understood" in caplog.text


def test_a_note_that_others_can_write_is_not_believed(
    status: Path, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It names a file that root rewrites."""
    assert noted(status)
    (directory / f"{DOMAIN.uuid}.json").chmod(0o666)
    with caplog.at_level(logging.WARNING):
        assert pending_strips.noted() == []
    assert f"{DOMAIN.uuid}.json isn't trusted: another user owns it, or can access it" in caplog.text


def test_a_note_that_cannot_be_written(tmp_path: Path, directory: Path) -> None:
    directory.write_text("in the way")
    with pytest.raises(HostError, match="can't be written"):
        pending_strips.note(a_record(tmp_path).saved)


def test_notes_that_cannot_be_listed_are_a_problem_and_no_error(directory: Path) -> None:
    """The guests of the batch run by then: their reports must not be lost for it."""
    directory.parent.mkdir(exist_ok=True)
    directory.write_text("no directory")
    connection = cast(Connection, object())
    text = f"the live XML still has '-incoming defer': {directory} can't be read: Not a directory"
    assert strip.strip_in_blackout(connection, {}) == strip.Stripped(connection, None, (text,), down=False)


@pytest.mark.parametrize("kind", [DaemonDown, Unsettled])
def test_a_daemon_that_does_not_come_back_is_no_success(
    status: Path, monkeypatch: pytest.MonkeyPatch, kind: type[VirtcprError]
) -> None:
    """All guests of the batch run, which alone would be exit code 0."""

    def down(*_: object) -> None:
        raise kind("it doesn't start", hint="start it by hand")

    pending_strips.note(a_record(status.parent).saved)
    monkeypatch.setattr(blackout, "during", down)
    connection = cast(Connection, SimpleNamespace(alive=lambda: True))
    stripped = strip.strip_in_blackout(connection, {})
    assert stripped.problems == ("the live XML still has '-incoming defer': it doesn't start: start it by hand",)
    assert exit_code([Keeping.RESTORED], stripped.codes) is ExitCode.UNKNOWN
