"""A start that libvirt's daemon died in: told from one that is under way, and forgotten with all that is left of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.support import facts
from virtcpr.actions.reboot import strip
from virtcpr.actions.records import pending_strips
from virtcpr.actions.records.pending_strips import Note
from virtcpr.domain import restart
from virtcpr.host.libvirt import daemon
from virtcpr.host.processes.proc import Process, ticks_since_boot

DOMAIN = facts.domain()
WAITS_FOR_EVER = ["sh", "-c", "read line", "sh"]
OTHER = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def born(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Note:
    """Its record, of process 0, which a daemon has found when it started."""
    start, end = DOMAIN.status_xml.index("<domain "), DOMAIN.status_xml.index("</domain>") + len("</domain>")
    text = DOMAIN.status_xml
    text = text[:start] + restart.waiting(text[start:end]).strip() + text[end:]
    path = tmp_path / "web.xml"
    path.write_text(text.replace("pid='1275'", "pid='0'", 1))
    (tmp_path / "web.pid").write_text("1275")
    driver = tmp_path / "driver.pid"
    driver.touch()
    os.utime(path, ns=(10**18, 10**18))
    os.utime(driver, ns=(10**18 + 1, 10**18 + 1))
    monkeypatch.setattr(daemon, "DRIVER_PID", driver)
    monkeypatch.setattr(pending_strips, "DIRECTORY", tmp_path / "leftovers")
    return Note(DOMAIN.uuid, DOMAIN.name, str(path), (), ram=str(tmp_path / "ram"), since=ticks_since_boot())


@pytest.fixture
def orphan() -> Iterator[Process]:
    child = subprocess.Popen([*WAITS_FOR_EVER, "-uuid", DOMAIN.uuid, *restart.WAITING], stdin=subprocess.PIPE)
    while not Path(f"/proc/{child.pid}/cmdline").read_bytes():  # the kernel tells of the start an instant before
        os.sched_yield()
    yield Process.of(child.pid)
    child.kill()
    child.wait()
    assert child.stdin is not None
    child.stdin.close()


def test_one_that_an_earlier_daemon_died_in(born: Note) -> None:
    assert strip.stuck_starts([born]) == {DOMAIN.uuid}


def test_one_that_is_under_way_is_not_stuck(born: Note) -> None:
    """This daemon has written its record itself."""
    os.utime(born.status_path, ns=(10**18 + 2, 10**18 + 2))
    assert strip.stuck_starts([born]) == frozenset()


@pytest.mark.parametrize(
    "changed",
    [
        lambda text: text.replace("pid='0'", "pid='1275'", 1),
        lambda text: text.replace(DOMAIN.uuid, OTHER),
        lambda _: "<domstatus",
    ],
)
def test_any_other_record_is_not_stuck(born: Note, changed: object) -> None:
    path = Path(born.status_path)
    path.write_text(changed(path.read_text()))  # type: ignore[operator]
    os.utime(path, ns=(10**18, 10**18))
    assert strip.stuck_starts([born]) == frozenset()


def test_nothing_of_it_is_left(born: Note, orphan: Process, tmp_path: Path) -> None:
    number = DOMAIN.status_xml.partition("<domain type=")[2].partition("id='")[2].partition("'")[0]
    own, others = tmp_path / f"ram/{number}-{DOMAIN.name}", tmp_path / f"ram/{number}-another"
    for directory in (own, others):
        directory.mkdir(parents=True)
        (directory / "pc.ram").touch()
    (tmp_path / "leftovers").mkdir()
    assert strip.strip_records([born]) == []
    assert not orphan.alive()
    assert not Path(born.status_path).exists()
    assert not (tmp_path / "web.pid").exists()
    assert (own.exists(), others.exists()) == (False, True)


def test_a_guest_that_is_another_s_is_not_ended(born: Note, tmp_path: Path) -> None:
    """Another domain's QEMU that waits, and one of this domain that doesn't."""
    words = (["-uuid", OTHER, *restart.WAITING], ["-uuid", DOMAIN.uuid])
    children = [subprocess.Popen([*WAITS_FOR_EVER, *more], stdin=subprocess.PIPE) for more in words]
    assert strip.strip_records([replace(born, ram="")]) == []
    for child in children:
        assert child.poll() is None
        child.communicate(b"\n")


def test_one_that_does_not_end_keeps_its_record(born: Note, orphan: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Process, "kill", lambda *_: False)
    (problem,) = strip.strip_records([born])
    assert f"process {orphan.pid} was killed, and isn't gone after 30 s" in problem
    assert Path(born.status_path).exists()


@pytest.mark.parametrize(
    ("since", "words"),
    [
        pytest.param(
            0, "waits for a state, but it isn't known when this start began: the process may be older", id="unknown"
        ),
        pytest.param(ticks_since_boot() + 10**6, "is older than this start, and may have the guest", id="later"),
    ],
)
def test_a_qemu_that_was_there_before_is_not_ended(born: Note, orphan: Process, since: int, words: str) -> None:
    """The guest was restored once, and may run in it, out of libvirt's sight."""
    (problem,) = strip.strip_records([replace(born, since=since)])
    assert f"process {orphan.pid} {words}" in problem
    assert orphan.alive()
    assert Path(born.status_path).exists()
