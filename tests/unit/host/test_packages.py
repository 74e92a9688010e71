"""Package managers at work: by their locks, and until they have been quiet for a while."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from virtcpr.host.system import packages

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(packages, "LOCKED", (tmp_path / "frontend", tmp_path / "lock", tmp_path / "missing"))
    monkeypatch.setattr(packages, "PRESENT", (tmp_path / "db.lck",))
    for name in ("frontend", "lock"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def hold() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """As dpkg holds its lock: by another process."""
    started: list[subprocess.Popen[str]] = []

    def take(path: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield take
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("name", ["frontend", "lock"])
def test_a_lock_that_is_held(host: Path, name: str, hold: Callable[[Path], subprocess.Popen[str]]) -> None:
    assert packages.busy() is None
    process = hold(host / name)
    assert packages.busy() == str(host / name)
    assert packages.busy() == str(host / name)  # looking took nothing away
    process.kill()
    process.wait()
    assert packages.busy() is None


def test_a_file_that_is_there(host: Path) -> None:
    (host / "db.lck").touch()
    assert packages.busy() == str(host / "db.lck")


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def quiet(monkeypatch: pytest.MonkeyPatch, busy: Callable[[float], bool], disturbed: Callable[[float], bool]) -> object:
    clock = Clock()
    monkeypatch.setattr(packages, "busy", lambda: "/lock" if busy(clock.now - 100) else None)
    said = packages.await_quiet(lambda: disturbed(clock.now - 100), clock, clock.wait)
    return clock.now - 100 if said is None else said


def never(_: float) -> bool:
    return False


def test_quiet_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    assert quiet(monkeypatch, never, never) == packages.QUIET_SECONDS


def test_several_runs_in_a_row_count_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds between them are no quiet."""
    assert quiet(monkeypatch, lambda t: t <= 20 or 30 <= t <= 40, never) == 40 + packages.QUIET_SECONDS


def test_a_run_that_was_too_short_to_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert quiet(monkeypatch, never, lambda t: t == 10) == 10 + packages.QUIET_SECONDS


def test_in_the_end_it_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert quiet(monkeypatch, lambda _: True, never) == "/lock is held"
    assert quiet(monkeypatch, lambda t: t % 10 == 0 and t < packages.WAIT_SECONDS, never) == (
        "package managers keep starting"
    )
