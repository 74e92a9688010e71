"""The administrator's programs around a move: who may object, and how."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from virtcpr.host.report import hooks_d, programs
from virtcpr.host.system.paths import SYSTEM, of_user

Hook = Callable[..., Path]


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own directory isn't root's everywhere."""
    monkeypatch.setattr(programs, "refuse_untrusted", lambda _: None)
    monkeypatch.setattr(hooks_d, "PATHS", SYSTEM)


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hook:
    place = tmp_path / "hooks.d"
    place.mkdir()
    monkeypatch.setattr(hooks_d, "DIRECTORY", place)

    def add(name: str, script: str) -> Path:
        path = place / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return add


def never() -> str:
    raise AssertionError("nobody needs a document")


def test_without_programs_nobody_objects_and_nothing_is_made(hook: Hook) -> None:
    assert hooks_d.ask("before-wave", never) is None
    hooks_d.tell("after-wave", never)


def test_a_users_own_guests_are_not_the_systems(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """root's programs aren't that user's, and would count as objections."""
    monkeypatch.setattr(hooks_d, "PATHS", of_user({"HOME": "/home/me"}))
    hook("10-first", "exit 1")
    assert hooks_d.ask("before-wave", never) is None


def test_each_gets_the_event_and_the_document(hook: Hook, tmp_path: Path) -> None:
    hook("10-first", f'echo "$1 $(cat)" >> {tmp_path}/said')
    hook("20-second", f'echo "$1 $(cat)" >> {tmp_path}/said')
    assert hooks_d.ask("before-domain", lambda: json.dumps({"a": 1})) is None
    assert (tmp_path / "said").read_text() == 'before-domain {"a": 1}\n' * 2


def test_the_first_that_objects_ends_it(hook: Hook, tmp_path: Path) -> None:
    hook("10-first", "echo its backup runs >&2; exit 1")
    hook("20-second", f"touch {tmp_path}/ran")
    objection = hooks_d.ask("before-domain", lambda: "{}")
    assert objection is not None
    assert objection.endswith("10-first before-domain: its backup runs")
    assert not (tmp_path / "ran").exists()


def test_one_that_hangs_objects(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks_d, "SECONDS", 0.2)
    hook("hangs", "sleep 60")
    assert "took more than 0.2 s" in str(hooks_d.ask("before-wave", lambda: "{}"))


def test_one_that_others_could_have_written_objects(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    from virtcpr.host.files.config_files import refuse_untrusted

    monkeypatch.setattr(programs, "refuse_untrusted", refuse_untrusted)
    hook("open", "exit 0").chmod(0o777)
    assert "open" in str(hooks_d.ask("before-wave", lambda: "{}"))


def test_what_is_left_beside_a_program_is_none(hook: Hook) -> None:
    for name in (".hidden", "10-first~", "10-first.dpkg-old"):
        hook(name, "exit 1")
    hook("plain", "exit 1").chmod(0o644)
    assert hooks_d.ask("before-wave", never) is None


def test_afterwards_a_failure_is_only_logged(hook: Hook, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hook("10-first", "echo broken >&2; exit 1")
    hook("20-second", f"touch {tmp_path}/ran")
    with caplog.at_level(logging.WARNING):
        hooks_d.tell("after-domain", lambda: "{}")
    assert "broken" in caplog.text
    assert (tmp_path / "ran").exists()
