"""``upgrade`` in waves: what the options ask for, and which are refused."""

from __future__ import annotations

import pytest

from tests.contract.conftest import Cli
from tests.contract.fake import FakeBackend
from virtcpr.model import Probation, Request, Rollout


@pytest.mark.parametrize(
    ("args", "rollout"),
    [
        ((), None),
        (("--canary", "1"), Rollout(canary=1)),
        (("--canary", "web", "--canary", "db", "--canary", "2"), Rollout(canary=2, canaries=("web", "db"))),
        (
            ("--wave", "3", "--pause-between", "60", "--stop-after", "2"),
            Rollout(wave=3, pause_s=60, stop_after=2),
        ),
    ],
)
def test_waves(cli: Cli, args: tuple[str, ...], rollout: Rollout | None) -> None:
    backend = FakeBackend()
    assert cli("upgrade", "--all", "-y", *args, backend=backend).code == 0
    assert backend.requests == [Request(every=True, rollout=rollout)]


@pytest.mark.parametrize(
    ("args", "probation"),
    [
        (("--watch", "300"), Probation(300)),
        (("--watch", "5m"), Probation(300)),
        (("--watch", "1h", "--go-back", "wave"), Probation(3600, whole_wave=True)),
        (("--watch", "10s", "--go-back", "guest"), Probation(10)),
    ],
)
def test_they_are_watched_afterwards(cli: Cli, args: tuple[str, ...], probation: Probation) -> None:
    backend = FakeBackend()
    assert cli("upgrade", "--all", "-y", *args, backend=backend).code == 0
    assert backend.requests == [Request(every=True, probation=probation)]


@pytest.mark.parametrize("command", ["upgrade", "plan"])
def test_some_are_left_out(cli: Cli, command: str) -> None:
    backend = FakeBackend()
    yes = ("-y",) if command == "upgrade" else ()
    cli(command, "--all", *yes, "--exclude", "db*", "--exclude", "mail", backend=backend)
    assert backend.requests == [Request(every=True, exclude=("db*", "mail"))]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--all", "--canary", "0"), "--canary must be at least 1, not 0"),
        (("--all", "--wave", "0"), "--wave must be at least 1, not 0"),
        (("--all", "--wave", "1", "--stop-after", "0"), "--stop-after must be at least 1, not 0"),
        (("--all", "--wave", "1", "--pause-between", "-1"), "--pause-between must be 0 or more, not -1"),
        (("--all", "--pause-between", "5"), "--pause-between and --stop-after need waves: --canary or --wave"),
        (("--all", "--stop-after", "1"), "--pause-between and --stop-after need waves: --canary or --wave"),
        (("web", "--exclude", "db"), "--exclude needs --all"),
        (("web", "--go-back", "wave"), "--go-back needs --watch"),
        (("web", "--watch", "5m", "--mode", "live"), "--watch is for mode transfer"),
        (("web", "--watch", "5m", "--fallback", "reboot"), "--watch is for mode transfer"),
        (("web", "--watch", "soon"), "--watch must be a time as 300, 5m or 1h, not soon"),
        (("web", "--watch", "0m"), "--watch must be a time as 300, 5m or 1h, not 0m"),
    ],
)
def test_what_makes_no_sense(cli: Cli, args: tuple[str, ...], message: str) -> None:
    backend = FakeBackend()
    outcome = cli("upgrade", "-y", *args, backend=backend)
    assert (outcome.code, message in outcome.err) == (2, True), outcome
    assert backend.requests == []
