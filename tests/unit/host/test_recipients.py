"""Who gets results: the administrator's programs of notify.d, and a mail."""

from __future__ import annotations

import email
import json
import os
from email.policy import default
from pathlib import Path

import pytest

from virtcpr.errors import HostError
from virtcpr.host.report import mail, notify_d


def program(path: Path, text: str, mode: int = 0o755) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    directory = tmp_path / "notify.d"
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    return directory


def test_programs_are_run_in_order(programs: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for name in ("20-second", "10-first"):
        program(programs / name, f'echo {name} "$VIRTCPR_SUBJECT" $VIRTCPR_EXIT_CODE $(cat) >>{log}')
    program(programs / "plain", f"echo plain >>{log}", 0o644)
    program(programs / "old.dpkg-old", f"echo old >>{log}")
    program(programs / ".hidden", f"echo hidden >>{log}")
    notify_d.tell(json.dumps({"a": 1}), {"VIRTCPR_SUBJECT": "1 domain", "VIRTCPR_EXIT_CODE": "4"}, programs)
    assert log.read_text() == '10-first 1 domain 4 {"a": 1}\n20-second 1 domain 4 {"a": 1}\n'


def test_one_that_fails_stops_no_other(programs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    program(programs / "1-fails", "echo no such channel >&2; exit 3")
    program(programs / "2-reads-nothing", f"touch {tmp_path}/ran")
    notify_d.tell("x" * (1 << 20), {}, programs)
    assert (tmp_path / "ran").exists()
    assert "notify.d: " in caplog.text
    assert "1-fails: no such channel" in caplog.text


def test_one_that_hangs_is_ended(
    programs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notify_d, "SECONDS", 0.2)
    program(programs / "hangs", "exec sleep 600")
    notify_d.tell("{}", {}, programs)
    assert "hangs took more than 0.2 s" in caplog.text


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_what_others_can_write_is_not_run(programs: Path, mode: int, caplog: pytest.LogCaptureFixture) -> None:
    program(programs / "theirs", f"touch {programs}/ran", mode)
    notify_d.tell("{}", {}, programs)
    assert not (programs / "ran").exists()
    assert "theirs can be written by others than root" in caplog.text
    (programs / "theirs").chmod(0o755)
    programs.chmod(mode)
    notify_d.tell("{}", {}, programs)
    assert not (programs / "ran").exists()


def test_a_mail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sendmail = program(tmp_path / "sendmail", f'echo "$@" >{tmp_path}/arguments; cat >{tmp_path}/mail')
    monkeypatch.setattr(mail, "SENDMAIL", str(sendmail))
    mail.send("root", "[host] virtcpr: 1 domain: 1 upgraded", "DOMAIN  QEMU\nweb     10.0.2 → 10.0.13")
    assert (tmp_path / "arguments").read_text() == "-i root\n"
    sent = email.message_from_bytes((tmp_path / "mail").read_bytes(), policy=default)
    assert (sent["To"], sent["Subject"]) == ("root", "[host] virtcpr: 1 domain: 1 upgraded")
    assert sent["Auto-Submitted"] == "auto-generated"
    assert sent.get_content() == "DOMAIN  QEMU\nweb     10.0.2 → 10.0.13\n"


def test_a_mail_that_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "SENDMAIL", str(tmp_path / "none"))
    with pytest.raises(HostError, match="none can't be run: No such file"):
        mail.send("root", "s", "t")


def test_the_hosts_name() -> None:
    assert mail.host_name() == os.uname().nodename
