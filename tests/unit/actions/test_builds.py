"""What is kept before a move: by the configuration, once a build, and never a reason not to move."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from virtcpr.actions.records import batch, builds, history, saves
from virtcpr.errors import HostError, ParseError
from virtcpr.host.qemu import kept
from virtcpr.host.qemu.kept import Kept
from virtcpr.model import DomainReport, Result
from virtcpr.plan.policy import Policy


def guest(build: str) -> Any:
    process = SimpleNamespace(pid=1, started="1", build=build)
    return SimpleNamespace(process=process, qemu=SimpleNamespace(version=f"10.0 ({build})", package=build))


@pytest.fixture(autouse=True)
def files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is kept; `full` can't be."""
    names: list[str] = []

    def keep(_processes: object, build: str, _version: str, _package: str) -> None:
        if build == "full":
            raise HostError("no room")
        if build == "gone":
            raise ProcessLookupError(3, "No such process")
        names.append(build)

    def all_builds() -> list[Kept]:
        return [Kept(name, name, f"2026-01-{day:02}T00:00:00+00:00", f"/{name}") for day, name in enumerate(names, 1)]

    monkeypatch.setattr(kept, "keep", keep)
    monkeypatch.setattr(kept, "builds", all_builds)
    monkeypatch.setattr(kept, "remove", lambda one: names.remove(one.build))
    monkeypatch.setattr(kept, "remove_halves", lambda: None)
    monkeypatch.setattr(saves, "readable", list)
    monkeypatch.setattr(kept, "running", lambda: frozenset({"/runs"}))
    monkeypatch.setattr(builds, "configured", lambda: Policy(keep_builds=1, keep_days=100_000))
    return names


def test_each_build_once_and_more_than_allowed_if_one_batch_leaves_them(files: list[str]) -> None:
    assert builds.keep([guest("a"), guest("b"), guest("a")]) == ()
    assert sorted(files) == ["a", "b"]


def test_older_ones_go_but_not_what_a_process_runs(files: list[str]) -> None:
    files += ["older", "runs"]
    builds.keep([guest("a")])
    assert files == ["runs", "a"]


def test_what_a_saved_guest_is_restored_in_stays(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing runs it until then."""
    saved = SimpleNamespace(emulator="/older", live=SimpleNamespace(emulator="/old"))
    monkeypatch.setattr(saves, "readable", lambda: [SimpleNamespace(saved=saved)])
    files += ["oldest", "older", "old"]
    builds.keep([guest("a")])
    assert files == ["older", "old", "a"]


def test_nothing_goes_if_the_saved_guests_are_not_known(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable() -> list[object]:
        raise HostError("/var/lib/virtcpr/saved can't be read")

    monkeypatch.setattr(saves, "readable", unreadable)
    files += ["older"]
    builds.keep([guest("a")])
    assert files == ["older", "a"]


def test_old_ones_go(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builds, "configured", lambda: Policy(keep_builds=9, keep_days=1))
    files += ["older", "runs"]
    builds.keep([guest("a")])
    assert files == ["runs", "a"]


def test_none_is_wanted(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builds, "configured", lambda: Policy(keep_builds=0))
    assert builds.keep([guest("a")]) == ()
    assert files == []


def test_what_cannot_be_kept_is_told(files: list[str]) -> None:
    assert builds.keep([guest("full"), guest("gone"), guest("a")]) == (
        "no room: there is no way back to it by 'virtcpr undo'",
        "QEMU 10.0 (gone) can't be kept: No such process; there is no way back to it",
    )
    assert files == ["a"]


def test_a_configuration_that_is_wrong_keeps_nobody_from_moving(
    files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong() -> Policy:
        raise ParseError("virtcpr.toml isn't TOML")

    monkeypatch.setattr(builds, "configured", wrong)
    assert builds.keep([guest("a")]) == ("virtcpr.toml isn't TOML: no build of QEMU is kept for 'virtcpr undo'",)
    assert files == []


def test_undo_keeps_nothing(files: list[str]) -> None:
    with batch.undoing(3):
        assert builds.keep([guest("a")]) == ()
    assert files == []


def test_batches_are_numbered(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PATH", tmp_path / "history.jsonl")
    batch._own.cache_clear()
    assert batch.current().number == 1
    history.append(DomainReport("web", "u1", Result.UPGRADED), batch=7)
    history.append(DomainReport("web", "u1", Result.UPGRADED))
    assert batch.current().number == 1, "all of one process"
    batch._own.cache_clear()
    with batch.undoing(7):
        assert (batch.current().number, batch.current().undoes) == (8, 7)
    assert batch.current().undoes is None
    batch._own.cache_clear()
