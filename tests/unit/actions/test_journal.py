"""The journal: whole, private, and read back only where it can be trusted."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.support import facts
from virtcpr.actions.records import journal
from virtcpr.actions.records.journal import Entry, Journal
from virtcpr.domain.helpers.helper import Helper
from virtcpr.errors import HostError
from virtcpr.plan.steps import State
from virtcpr.plan.transfer.swap import plan

UUID = "6b1a0f5e-0d0c-4d5a-9a5e-000000000001"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def written(directory: Path) -> Journal:
    made = plan(facts.domain())
    entry = Entry(
        UUID, State.PLANNED, made.guest, 11, "111", argv=made.argv, daemon={"name": "libvirtd", "sockets": []}
    )
    one = Journal(entry, directory)
    one.write(State.MIGRATING, new_pid=22, new_started="222", taps=((5, 12, 0),), ports=((7, 4711),), cid=3)
    return one


def test_it_is_read_as_it_was_written(written: Journal, directory: Path) -> None:
    assert journal.pending(directory) == [UUID]
    loaded = journal.load(UUID, directory)
    assert loaded.entry == written.entry
    assert loaded.entry.state is State.MIGRATING
    loaded.close()
    assert journal.pending(directory) == []


def test_a_journal_of_the_first_version(written: Journal, directory: Path) -> None:
    """A swap that it has begun is settled by the version that is installed by then."""
    body = json.loads(written.path.read_text())
    entry = {
        "schema", "uuid", "state", "guest", "old_pid", "old_started", "new_pid", "new_started", "argv", "daemon",
        "taps", "expected",
    }  # fmt: skip
    guest = {"name", "monitor", "lib_dir", "status_path", "status_xml", "emulator", "runs", "return_path", "taints"}
    known = {name: value for name, value in body.items() if name in entry}
    known["guest"] = {name: value for name, value in body["guest"].items() if name in guest}
    assert (set(known), set(known["guest"])) == (entry, guest)
    written.path.write_text(json.dumps(known))
    loaded = journal.load(UUID, directory).entry
    bare = replace(written.entry.guest, listeners=(), helpers=(), limits={})
    assert loaded == replace(written.entry, guest=bare, ports=(), cid=None, source=None, target=None, oom_score_adj=0)


@pytest.mark.parametrize("member", ["new_pid", "taps", "expected", "old_started"])
def test_half_a_journal_is_refused(written: Journal, directory: Path, member: str) -> None:
    """Every version has written these: nobody may take it that there was no new QEMU."""
    body = json.loads(written.path.read_text())
    del body[member]
    written.path.write_text(json.dumps(body))
    with pytest.raises(HostError, match=f"can't be understood: '{member}'"):
        journal.load(UUID, directory)


def test_the_process_of_a_tpm_is_read_as_it_was_written(written: Journal, directory: Path) -> None:
    helper = Helper("swtpm", 33, "333", ("swtpm", "socket"), "/run/tpm.sock", "/run/tpm.pid")
    written.write(State.RECEIVED, guest=replace(written.entry.guest, helpers=(helper,)))
    assert journal.load(UUID, directory).entry.guest.helpers == (helper,)


def test_it_is_private_and_leaves_nothing_beside(written: Journal, directory: Path) -> None:
    assert written.path.stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    written.write(State.RECEIVED)
    assert [path.name for path in directory.iterdir()] == [f"{UUID}.json"]


def test_a_symlink_is_refused(written: Journal, directory: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    written.path.rename(elsewhere)
    written.path.symlink_to(elsewhere)
    with pytest.raises(HostError, match="can't be read: Too many levels of symbolic links"):
        journal.load(UUID, directory)


@pytest.mark.parametrize("mode", [0o644, 0o620, 0o602])
def test_what_others_can_reach_is_refused(written: Journal, directory: Path, mode: int) -> None:
    written.path.chmod(mode)
    with pytest.raises(HostError, match="isn't trusted: another user"):
        journal.load(UUID, directory)


def test_a_directory_that_others_can_write_is_refused(written: Journal, directory: Path) -> None:
    directory.chmod(0o777)
    with pytest.raises(HostError, match="isn't trusted: another user"):
        journal.load(UUID, directory)
    with pytest.raises(HostError, match="isn't trusted: another user"):
        written.write(State.RECEIVED)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_foreign_owner_is_refused(written: Journal, directory: Path) -> None:
    os.chown(written.path, 1234, 1234)
    with pytest.raises(HostError, match="isn't trusted: another user"):
        journal.load(UUID, directory)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 1}, "schema 1, this virtcpr knows 3"),
        ({"uuid": "another"}, "it belongs to domain another"),
        ({"state": "dreaming"}, "dreaming"),
        ({"taps": [["a"]]}, "can't be understood"),
        ({"guest": {}}, "can't be understood"),
    ],
)
def test_a_document_that_is_none(written: Journal, directory: Path, change: dict[str, object], said: str) -> None:
    written.path.write_text(json.dumps({**json.loads(written.path.read_text()), **change}))
    with pytest.raises(HostError, match=said):
        journal.load(UUID, directory)


def test_half_a_document(written: Journal, directory: Path) -> None:
    written.path.write_text(written.path.read_text()[:40])
    with pytest.raises(HostError, match="can't be understood"):
        journal.load(UUID, directory)


def test_a_state_that_cannot_be_written_stops_the_action(written: Journal, directory: Path) -> None:
    before = written.entry
    os.mkdir(f"{written.path}.part")
    with pytest.raises(HostError, match="the journal can't be written"):
        written.write(State.COMMITTING)
    assert written.entry == before
    assert journal.load(UUID, directory).entry == replace(before, state=State.MIGRATING)


def test_a_directory_that_cannot_be_read_is_an_error_that_says_so(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> list[str]:
        raise PermissionError(13, "Permission denied")

    assert journal.pending(directory) == []
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(HostError, match="can't be read: Permission denied") as refused:
        journal.pending(directory)
    assert refused.value.hint == "run it with sudo"
