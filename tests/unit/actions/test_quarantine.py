"""Records of libvirt's that are held aside, and what becomes of them without a journal."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.support import facts
from virtcpr.actions.records import journal, quarantine
from virtcpr.actions.transfer import reconnect_check, settle_quarantined
from virtcpr.errors import HostError
from virtcpr.host.libvirt import daemon, hooks
from virtcpr.model import Recovered, Settled
from virtcpr.plan.reconnect import Disagreement

RECORD = facts.domain().status_xml
UUID = "eb4f8de1-b197-42ee-ac39-d4287286b204"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """libvirt's directory, with the record of the domain `web`; the others are empty."""
    state = tmp_path / "libvirt"
    state.mkdir()
    monkeypatch.setattr(daemon, "STATE_DIR", state)
    monkeypatch.setattr(quarantine, "DIRECTORY", tmp_path / "held")
    monkeypatch.setattr(journal, "pending", list)
    monkeypatch.setattr(hooks, "DIRECTORY", tmp_path / "hooks")
    monkeypatch.setattr(hooks, "put", lambda _: None)
    (state / "web.xml").write_text(RECORD)
    (state / "web.pid").write_text("1275\n")
    return state


def test_hold_and_put_back(places: Path) -> None:
    said = quarantine.hold(UUID, places / "web.xml")
    assert said.endswith("libvirt shows the domain shut off, or not at all, and refuses to start it")
    assert list(places.iterdir()) == []
    assert quarantine.held() == {UUID: "web"}
    assert quarantine.text(UUID) == RECORD
    assert quarantine.DIRECTORY.stat().st_mode & 0o777 == 0o700

    quarantine.put_back(UUID, places / "web.xml")

    assert (places / "web.xml").read_text() == RECORD
    assert (places / "web.pid").read_text() == "1275\n"
    assert list(quarantine.DIRECTORY.iterdir()) == []


def test_libvirts_own_record_is_the_better_one(places: Path) -> None:
    quarantine.hold(UUID, places / "web.xml")
    (places / "web.xml").write_text("newer")
    quarantine.put_back(UUID, places / "web.xml")
    assert (places / "web.xml").read_text() == "newer"
    assert quarantine.held() == {}


def test_a_domain_that_libvirt_gave_up_is_refused_all_the_same(places: Path) -> None:
    (places / "web.xml").unlink()
    quarantine.hold(UUID, places / "web.xml")
    assert quarantine.held() == {UUID: "web"}
    quarantine.put_back(UUID, places / "web.xml")
    assert not (places / "web.xml").exists()


def test_what_cannot_be_seen_is_not_taken_for_nothing(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`hooks remove` asks: without the hook libvirt would start the guest a second time."""
    quarantine.hold(UUID, places / "web.xml")

    def refuses(path: Path) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuses)
    with pytest.raises(HostError, match=r"held can't be read: Permission denied") as refused:
        quarantine.held()
    assert refused.value.hint == "run it with sudo"


def test_a_directory_that_was_left_empty_is_removed(places: Path) -> None:
    quarantine.hold(UUID, places / "web.xml")
    (quarantine.DIRECTORY / "another").mkdir()
    assert quarantine.held() == {UUID: "web"}
    quarantine.tidy()
    assert os.listdir(quarantine.DIRECTORY) == [UUID]


def test_a_record_that_virtcpr_0_1_0_held(places: Path) -> None:
    """By name; it stays held where its UUID isn't known."""
    quarantine.DIRECTORY.mkdir(mode=0o700)
    for name in ("web.xml", "web.pid"):
        (places / name).rename(quarantine.DIRECTORY / name)
    (quarantine.DIRECTORY / "db.xml").touch()
    assert quarantine.held() == {"db.xml": "db", "web.xml": "web"}
    quarantine.tidy()
    assert quarantine.held() == {"db.xml": "db", UUID: "web"}
    assert quarantine.text(UUID) == RECORD
    quarantine.put_back(UUID, places / "web.xml")
    assert sorted(path.name for path in places.iterdir()) == ["web.pid", "web.xml"]


def test_it_is_said_where_nothing_refuses_a_start(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def put(name: str) -> None:
        raise HostError("somebody else's")

    monkeypatch.setattr(hooks, "put", put)
    assert quarantine.hold(UUID, places / "web.xml").endswith(
        "and must not start it: the guest would run twice (libvirt's hook that refuses this isn't installed)"
    )


def test_what_cannot_be_held_is_said(places: Path) -> None:
    quarantine.DIRECTORY.write_text("in the way")
    with pytest.raises(HostError, match=r"web.xml can't be held aside: Not a directory"):
        quarantine.hold(UUID, places / "web.xml")
    outcome = settle_quarantined.hold(Recovered("web", UUID, "", "", "", Settled.UNKNOWN, "why"), places / "web.xml")
    assert outcome.text.startswith("why; libvirt's record ")
    assert (places / "web.xml").read_text() == RECORD


def test_a_domain_whose_journal_cannot_be_read_is_found_by_its_uuid(places: Path) -> None:
    (places / "broken.xml").write_text("<domstatus")
    unread = Recovered("", UUID, "", "", "", Settled.UNKNOWN, "the journal can't be read")
    (outcome,) = settle_quarantined.hold_all([unread])
    assert outcome.name == "web"
    assert outcome.text.startswith("the journal can't be read; libvirt's record of it is held aside in ")
    assert outcome.text.endswith("'virtcpr recover web' looks again")
    assert quarantine.held() == {UUID: "web"}
    assert settle_quarantined.hold_all([unread]) == [outcome]
    assert settle_quarantined.hold_all([Recovered("", "another", "", "", "", Settled.UNKNOWN, "why")])[0].text == "why"


# Without a journal.


@pytest.fixture
def guest(places: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that the held record names."""
    process = subprocess.Popen(["sleep", "600"])
    text = re.sub("pid='1275'", f"pid='{process.pid}'", RECORD, count=1)
    text = text.replace("/var/lib/libvirt/qemu/domain-1-d1/monitor.sock", f"{tmp_path}/monitor.sock")
    (places / "web.xml").write_text(text)
    quarantine.hold(UUID, places / "web.xml")
    yield process
    process.kill()
    process.wait()


def answer(monkeypatch: pytest.MonkeyPatch, *found: Disagreement) -> None:
    async def second(*_: object) -> tuple[Disagreement, ...]:
        return found

    monkeypatch.setattr(reconnect_check, "second", second)


def test_libvirt_gets_back_what_it_would_take(
    places: Path, guest: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, Disagreement("a trifle", kills=False))
    assert (
        settle_quarantined.left(())
        == settle_quarantined.left(("web",))
        == settle_quarantined.left((UUID,))
        == {UUID: "web"}
    )
    assert settle_quarantined.left(("db",)) == {}
    outcome = asyncio.run(settle_quarantined.give_back(UUID, "web"))
    assert (outcome.settled, outcome.uuid) == (Settled.NOTHING, UUID)
    assert outcome.text == f"libvirt has its record again (process {guest.pid})"
    assert (places / "web.xml").exists()
    assert quarantine.held() == {}


def test_what_it_would_kill_stays_held(
    places: Path, guest: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, Disagreement("vCPUs: without 1"))
    outcome = asyncio.run(settle_quarantined.give_back(UUID, "web"))
    assert outcome.settled is Settled.UNKNOWN
    assert outcome.text.startswith(
        "libvirt would kill the guest: vCPUs: without 1; libvirt's record of it is held aside"
    )
    assert not (places / "web.xml").exists()
    assert quarantine.held() == {UUID: "web"}


def test_a_guest_that_has_ended_is_libvirts_to_clean_up(places: Path, guest: subprocess.Popen[bytes]) -> None:
    guest.kill()
    guest.wait()
    outcome = asyncio.run(settle_quarantined.give_back(UUID, "web"))
    assert (outcome.settled, outcome.text) == (
        Settled.NOTHING,
        "the guest has ended; libvirt has its record again",
    )
    assert (places / "web.xml").exists()


def test_another_process_behind_its_monitor_may_have_the_guest(
    places: Path, guest: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.bind(f"{tmp_path}/monitor.sock")
        monitor.listen()
        outcome = asyncio.run(settle_quarantined.give_back(UUID, "web"))
    assert outcome.settled is Settled.UNKNOWN
    assert f"another process than libvirt's record names may have the guest: [{os.getpid()}]" in outcome.text
    assert quarantine.held() == {UUID: "web"}


def test_a_domain_with_a_journal_is_settled_by_it(
    guest: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where that journal can't be read: it says that somebody else may have the guest."""
    monkeypatch.setattr(journal, "pending", lambda: [UUID])
    assert settle_quarantined.left(()) == {}
