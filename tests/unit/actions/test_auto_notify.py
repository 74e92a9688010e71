"""Whom `auto` tells, and what: the journal, Prometheus, programs, mail."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from virtcpr.actions.auto import notify, prometheus
from virtcpr.actions.records import history, moved, system_journal, told, unsettled
from virtcpr.actions.records.batch import Batch
from virtcpr.errors import HostError
from virtcpr.host.report import journald, mail, notify_d, web
from virtcpr.model import (
    Action,
    AutoDomain,
    AutoReport,
    DomainReport,
    ExitCode,
    Finding,
    Mode,
    Outlook,
    Phase,
    Recovered,
    Result,
    Settled,
    Severity,
    Side,
)
from virtcpr.plan import metrics
from virtcpr.plan.auto import Candidate
from virtcpr.plan.policy import Auto, Policy

WEB = AutoDomain("web", "u1", Action.UPGRADED, "", Mode.TRANSFER, Side("10.0.2", 1), Side("10.0.13", 2), 41.25)
DB = AutoDomain(
    "db",
    "u2",
    Action.BLOCKED,
    "mode reboot can't move it either",
    source=Side("10.0.2", 1),
    findings=(Finding("x", Severity.BLOCKER, "no\nroom", ""), Finding("y", Severity.WARNING, "viewers", "")),
)
NEW = AutoDomain("new", "u3", Action.CURRENT)
MOVED = DomainReport(
    "web", "u1", Result.UPGRADED, Mode.TRANSFER, Side("10.0.2", 1), Side("10.0.13", 2), 41.25, (Phase("commit", 1.0),)
)
REPORT = AutoReport((WEB, DB, NEW), ExitCode.SOME)


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, str]]]:
    """A socket that stands in for journald's; gives the records that came."""
    path = tmp_path / "journal"
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(path))
    server.setblocking(False)
    monkeypatch.setattr(journald, "SOCKET", str(path))

    def came() -> list[dict[str, str]]:
        found = []
        while True:
            try:
                found.append(understood(server.recv(1 << 16)))
            except BlockingIOError:
                return found

    return came


def understood(datagram: bytes) -> dict[str, str]:
    """As journald reads it (JOURNAL_NATIVE_PROTOCOL)."""
    fields = {}
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(datagram[:8], "little")
            value, datagram = datagram[8 : 8 + size], datagram[8 + size :].removeprefix(b"\n")
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture(autouse=True)
def reported(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it is noted."""
    path = tmp_path_factory.mktemp("state") / "told.json"
    monkeypatch.setattr(told, "PATH", path)
    return path


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What programs and mail were given."""
    said: list[tuple[object, ...]] = []
    monkeypatch.setattr(notify_d, "tell", lambda *given: said.append(("notify", *given)))
    monkeypatch.setattr(mail, "send", lambda *given: said.append(("mail", *given)))
    monkeypatch.setattr(mail, "host_name", lambda: "host7")
    monkeypatch.setattr(web, "ping", lambda *given: said.append(("ping", *given)))
    monkeypatch.setattr(web, "post", lambda *given: said.append(("post", *given)))
    return said


def test_the_journal(journal: Callable[[], list[dict[str, str]]], others: list[object]) -> None:
    system_journal.send_domain(MOVED)
    notify.tell(Policy(), REPORT, "{}", "")
    web, db, new, summary = journal()
    assert web == {
        "MESSAGE": "web: upgraded, QEMU 10.0.2 to 10.0.13, paused for 41 ms",
        "MESSAGE_ID": system_journal.DOMAIN_ID,
        "PRIORITY": "5",
        "SYSLOG_IDENTIFIER": "virtcpr",
        "VIRTCPR_DOMAIN": "web",
        "VIRTCPR_UUID": "u1",
        "VIRTCPR_RESULT": "upgraded",
        "VIRTCPR_MODE": "transfer",
        "VIRTCPR_FROM": "10.0.2",
        "VIRTCPR_TO": "10.0.13",
        "VIRTCPR_PAUSE_MS": "41.250",
    }
    assert db["VIRTCPR_REASON"] == "mode reboot can't move it either; no\nroom"
    assert (db["PRIORITY"], db["MESSAGE"]) == ("4", "db: blocked: mode reboot can't move it either; no\nroom")
    assert "VIRTCPR_TO" not in db
    assert (new["PRIORITY"], new["MESSAGE"]) == ("7", "new: current")
    assert summary["MESSAGE"] == "auto: 3 domains: 1 upgraded, 1 current, 1 blocked"
    assert (summary["MESSAGE_ID"], summary["PRIORITY"], summary["VIRTCPR_EXIT_CODE"]) == (
        system_journal.SUMMARY_ID,
        "4",
        "3",
    )


@pytest.fixture(autouse=True)
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "state/history.jsonl"
    monkeypatch.setattr(history, "PATH", path)
    return path


def test_a_move_by_hand_is_in_the_journal_and_in_the_history(journal: Callable[[], list[dict[str, str]]]) -> None:
    rolled_back = replace(MOVED, result=Result.ROLLED_BACK, findings=(Finding("x", Severity.BLOCKER, "no room", ""),))
    for report in (MOVED, rolled_back, replace(MOVED, result=Result.CURRENT), replace(MOVED, result=Result.BLOCKED)):
        moved.note(report)
    assert [record["MESSAGE"] for record in journal()] == [
        "web: upgraded, QEMU 10.0.2 to 10.0.13, paused for 41 ms",
        "web: rolled-back: no room",
    ]
    assert [entry.result for entry in history.entries()] == [Result.UPGRADED, Result.ROLLED_BACK]


def test_a_move_that_was_settled_later_is_there_too(journal: Callable[[], list[dict[str, str]]]) -> None:
    for settled in Settled:
        outcome = Recovered("web", "u1", "", "", "", settled, "why")
        moved.note_settled(outcome, Mode.TRANSFER, Side("10.0.2"), Side("10.0.13"), Batch(7, undoes=5))
    assert {(entry.batch, entry.undoes) for entry in history.entries()} == {(7, 5)}
    assert [(entry.result, entry.source, entry.target) for entry in history.entries()] == [
        (Result.UPGRADED, "10.0.2", "10.0.13"),
        (Result.ROLLED_BACK, "10.0.2", "10.0.13"),
        (Result.FAILED, "10.0.2", "10.0.13"),
    ]
    forward, back, lost = journal()
    assert forward["MESSAGE"] == "web: upgraded, QEMU 10.0.2 to 10.0.13"
    assert back["MESSAGE"] == "web: rolled-back: settled after an interruption: why"
    assert (lost["VIRTCPR_RESULT"], lost["PRIORITY"]) == ("failed", "3")


def test_no_value_can_add_a_field() -> None:
    assert understood(journald.record({"A": "x\nB=y", "C": "z\udc80"})) == {"A": "x\nB=y", "C": "z\\udc80"}


def test_every_action_has_its_priority() -> None:
    assert set(system_journal.PRIORITIES) == set(Action) - {Action.MOVE}


def test_without_a_journal_nothing_fails(monkeypatch: pytest.MonkeyPatch, others: list[object]) -> None:
    monkeypatch.setattr(journald, "SOCKET", "/no/such/socket")
    notify.tell(Policy(), REPORT, "{}", "")


def test_programs_and_mail(monkeypatch: pytest.MonkeyPatch, others: list[tuple[object, ...]]) -> None:
    monkeypatch.setattr(journald, "send", lambda _: None)
    notify.tell(Policy(mail="root"), REPORT, "{}", "TABLE")
    subject = "3 domains: 1 upgraded, 1 current, 1 blocked"
    assert others == [
        ("notify", "{}", {"VIRTCPR_SUBJECT": subject, "VIRTCPR_EXIT_CODE": "3"}),
        ("mail", "root", f"[host7] virtcpr: {subject}", "TABLE"),
    ]
    others.clear()
    notify.tell(Policy(mail="root"), replace(REPORT, domains=(NEW,)), "{}", "TABLE")
    assert others == []  # nothing to tell


def test_by_http(monkeypatch: pytest.MonkeyPatch, others: list[tuple[object, ...]]) -> None:
    """A ping after every run: a monitor waits for it."""
    monkeypatch.setattr(journald, "send", lambda _: None)
    policy = Policy(ping="https://a", webhook="https://b")
    notify.tell(policy, REPORT, "{}", "TABLE")
    assert [one for one in others if one[0] != "notify"] == [("ping", "https://a", 3), ("post", "https://b", "{}")]
    others.clear()
    notify.tell(policy, replace(REPORT, domains=(NEW,), exit_code=ExitCode.DONE), "{}", "TABLE")
    assert others == [("ping", "https://a", 0)]


def test_a_daily_look_tells_only_what_is_new(
    reported: Path, monkeypatch: pytest.MonkeyPatch, others: list[tuple[object, ...]]
) -> None:
    """Also after a run that tells everything; what went away and comes back is new."""
    monkeypatch.setattr(journald, "send", lambda _: None)

    def telling(report: AutoReport, *, changes: bool = True) -> bool:
        others.clear()
        notify.tell(Policy(), report, "{}", "", changes=changes)
        return bool(others)

    less = replace(REPORT, domains=REPORT.domains[1:])
    assert telling(REPORT, changes=False)
    assert not telling(REPORT)
    assert telling(less)
    assert not telling(replace(less, blackout_ms=5.0))
    assert telling(REPORT)
    reported.write_text("{ torn")
    assert telling(REPORT)
    assert telling(REPORT, changes=False)


def test_nobody_who_cannot_be_told_is_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: list[object], caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise HostError("/usr/sbin/sendmail can't be run")

    monkeypatch.setattr(journald, "send", lambda _: None)
    monkeypatch.setattr(mail, "send", fails)
    monkeypatch.setattr(web, "ping", fails)
    policy = Policy(mail="root", ping="https://a", webhook="https://b", prometheus=str(tmp_path / "none/virtcpr.prom"))
    notify.tell(policy, REPORT, "{}", "TABLE")
    assert ("post", "https://b", "{}") in others
    assert "virtcpr.prom can't be written: No such file or directory" in caplog.text
    assert "/usr/sbin/sendmail can't be run" in caplog.text


def test_prometheus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: list[object]) -> None:
    monkeypatch.setattr(journald, "send", lambda _: None)
    path = tmp_path / "virtcpr.prom"
    notify.tell(Policy(prometheus=str(path)), REPORT, "{}", "")
    assert path.stat().st_mode & 0o777 == 0o644
    assert [one.name for one in tmp_path.iterdir()] == ["virtcpr.prom"]
    lines = path.read_text().splitlines()
    for line in (
        "# TYPE virtcpr_domains gauge",
        'virtcpr_domains{result="upgraded"} 1',
        'virtcpr_domains{result="unknown"} 0',
        "virtcpr_outdated_domains 1",
        "virtcpr_last_exit_code 3",
        'virtcpr_pause_seconds{domain="web"} 0.04125',
        'virtcpr_domain_info{domain="web",qemu="10.0.13"} 1',
        'virtcpr_domain_info{domain="db",qemu="10.0.2"} 1',
        "# TYPE virtcpr_moves_total counter",
        'virtcpr_moves_total{result="failed"} 0',
        "virtcpr_unsettled_domains 0",
    ):
        assert line in lines
    assert 'result="move"' not in path.read_text()


def test_a_command_by_hand_refreshes_prometheus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The alert on an outdated domain resolves when somebody moves it."""
    path = tmp_path / "virtcpr.prom"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(prometheus, "configured", lambda: Policy(prometheus=str(path)))
    monkeypatch.setattr(journald, "send", lambda _: None)
    moved.note(MOVED)

    @contextmanager
    def connected(_: object) -> Iterator[None]:
        yield

    current = Candidate(Outlook("web", "u1", None, None, Result.CURRENT))
    movable = Candidate(Outlook("db", "u2", None, None))
    monkeypatch.setattr(prometheus, "Connection", connected)
    monkeypatch.setattr(prometheus, "probed", lambda *_: [(None, current), (None, movable)])
    monkeypatch.setattr(prometheus, "candidate", lambda move, _moves: move)
    prometheus.refresh(None, 3)
    lines = path.read_text().splitlines()
    assert "virtcpr_outdated_domains 1" in lines
    assert 'virtcpr_domains{result="current"} 1' in lines
    assert 'virtcpr_domains{result="told"} 1' in lines
    assert 'virtcpr_pause_seconds{domain="web"} 0.04125' in lines
    assert "virtcpr_last_exit_code 3" in lines
    assert 'virtcpr_moves_total{result="upgraded"} 1' in lines
    monkeypatch.setattr(unsettled, "uuids", lambda: ["u1"])
    assert prometheus.refresh(None, None) is None, "the daily timer knows of no other run"
    assert "virtcpr_last_exit_code 3" in path.read_text()
    assert "virtcpr_unsettled_domains 1\n" in path.read_text()

    path.unlink()
    monkeypatch.setattr(prometheus, "configured", lambda: Policy(auto=Auto.OFF, prometheus=str(path)))
    assert prometheus.refresh(None, 0) == 'virtcpr.toml says auto = "off"'
    monkeypatch.setattr(prometheus, "configured", Policy)
    assert prometheus.refresh(None, 0) == "virtcpr.toml names none (results.prometheus)"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert prometheus.refresh(None, 0) == "only root may write it"
    assert not path.exists()


def test_what_keeps_prometheus_from_being_refreshed_is_only_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> Policy:
        raise HostError("virtcpr.toml can't be read")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(prometheus, "configured", fails)
    assert prometheus.refresh(None, 0) == "virtcpr.toml can't be read"
    assert "the file for Prometheus is out of date until the next run: virtcpr.toml can't be read" in caplog.text


def test_a_label_is_quoted() -> None:
    text = metrics.exposition(AutoReport((replace(WEB, name='a"b\\c\nd'),), ExitCode.DONE), 1.5, {}, 0)
    assert 'virtcpr_pause_seconds{domain="a\\"b\\\\c\\nd"} 0.04125\n' in text
    assert "virtcpr_last_run_timestamp_seconds 1.5\n" in text
