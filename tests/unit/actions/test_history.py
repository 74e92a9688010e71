"""The history: written by upgrades, read by `history` and the forecast."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from virtcpr.actions.history import report
from virtcpr.actions.records import history
from virtcpr.errors import HostError
from virtcpr.model import Blackout, DomainReport, Finding, Mode, Phase, Result, Severity, Side

WEB = DomainReport(
    "web", "u1", Result.UPGRADED, Mode.TRANSFER, Side("10.0.2", 1), Side("10.0.13", 2), 41.2, (Phase("spawn", 210.0),)
)
DB = DomainReport("db", "u2", Result.ROLLED_BACK, Mode.REBOOT, Side("10.0.2", 3))


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "virtcpr/history.jsonl"
    monkeypatch.setattr(history, "PATH", made)
    return made


def test_what_is_written_can_be_read(path: Path) -> None:
    history.append(WEB)
    history.append(DB)
    web, db = report(None, (), None).entries
    assert (web.name, web.uuid, web.result, web.mode, web.pause_ms) == (
        "web",
        "u1",
        Result.UPGRADED,
        Mode.TRANSFER,
        41.2,
    )
    assert (web.source, web.target, web.phases) == ("10.0.2", "10.0.13", WEB.phases)
    assert (db.result, db.target, db.pause_ms, db.phases) == (Result.ROLLED_BACK, None, None, ())
    assert web.time.endswith("+00:00")
    assert path.parent.stat().st_mode & 0o077 == 0


def test_why_it_was_not_moved() -> None:
    blocker = Finding("host", Severity.BLOCKER, "no room", "make some", (Mode.LIVE,), "QEMU")
    warning = Finding("vnc-dropped", Severity.WARNING, "they were disconnected", "connect again")
    history.append(replace(DB, findings=(warning, blocker)))
    (entry,) = report(None, (), None).entries
    assert entry.findings == (replace(blocker, modes=tuple(Mode), source=""),)


def test_lines_of_older_versions_have_none(path: Path) -> None:
    history.append(DB)
    line = json.loads(path.read_text())
    del line["findings"]
    path.write_text(json.dumps(line))
    assert report(None, (), None).entries[0].findings == ()


def test_which_and_how_many() -> None:
    for one in (WEB, DB, WEB):
        history.append(one)
    names = [[entry.name for entry in report(None, *asked).entries] for asked in ((("web",), None), (("u2",), None))]
    assert names == [["web", "web"], ["db"]]
    assert [entry.name for entry in report(None, (), 2).entries] == ["db", "web"]
    assert report(None, ("nobody",), None).entries == ()


def test_lines_that_make_no_sense_are_skipped(path: Path) -> None:
    history.append(WEB)
    good = json.loads(path.read_text())
    bad = [{**good, "result": "?"}, {**good, "time": 5}, {**good, "phases": [1]}, {**good, "mode": "?"}, [], 7, None]
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in bad)
        file.write("{ torn")
    assert len(report(None, (), None).entries) == 1
    assert history.pauses(Mode.TRANSFER) == {"u1": [41.2]}
    assert history.pauses(Mode.REBOOT) == {}


def test_none_yet() -> None:
    assert report(None, (), None).entries == ()
    assert history.pauses(Mode.TRANSFER) == {}


def test_one_that_cannot_be_read(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(HostError, match=r"history.jsonl can't be read: Is a directory") as refused:
        report(None, (), None)
    assert refused.value.hint == "run it with sudo"
    assert history.pauses(Mode.TRANSFER) == {}


def test_blackouts_are_those_of_the_guests_that_were_moved_in_them() -> None:
    first, second = Blackout(2, 812.5), Blackout(1, 600)
    for blackout in (first, first, None, second, second):
        history.append(replace(WEB, blackout=blackout))
    history.append(replace(WEB, mode=Mode.LIVE, blackout=Blackout(1, 2800)))
    assert history.blackouts() == [first, second]
    assert history.blackouts(Mode.LIVE) == [Blackout(1, 2800)]
    history.append(replace(WEB, blackout=second))
    assert report(None, (), 1).entries[0].blackout == second


def test_without_a_history_there_are_no_blackouts() -> None:
    assert history.blackouts() == []
