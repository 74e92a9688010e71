"""The keeper: a real process, which has descriptors after whoever gave them has closed them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtcpr.errors import HostError
from virtcpr.host.processes import keeper, outlive
from virtcpr.host.processes.keeper import Keeper
from virtcpr.host.system.wait import wait_until

NAME = "9f3c"


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    monkeypatch.setattr(keeper, "DIRECTORY", tmp_path / "kept")
    monkeypatch.setattr(outlive, "SYSTEMD", tmp_path / "none")
    made = keeper.start(NAME)
    yield made
    made.end()
    made.leave()


def filled(text: str) -> int:
    fd = os.memfd_create(text)
    os.write(fd, text.encode())
    return fd


def contents(fds: list[int]) -> list[str]:
    said = [os.pread(fd, 100, 0).decode() for fd in fds]
    for fd in fds:
        os.close(fd)
    return said


def gone(kept: Keeper) -> bool:
    return bool(wait_until(lambda: not kept.path.exists(), 5))


@pytest.mark.parametrize("number", [1, keeper.MOST - 1, keeper.MOST, 3 * keeper.MOST + 7])
def test_what_is_put_can_be_fetched_again_and_again(started: Keeper, number: int) -> None:
    """In the order in which it was put, more than fits into one message, and without whoever put it."""
    texts = [f"the {place}." for place in range(number)]
    fds = [filled(text) for text in texts]
    started.put({"what": ["it", 7]}, fds)
    for fd in fds:
        os.close(fd)
    started.leave()
    for _ in range(2):
        found = started.fetch()
        assert found is not None
        note, copies = found
        assert note == {"what": ["it", 7]}
        assert contents(copies) == texts


def test_one_that_keeps_nothing_ends_with_whoever_started_it(started: Keeper) -> None:
    assert started.fetch() is None
    started.leave()
    assert gone(started)
    assert started.fetch() is None


def test_it_ends_when_it_is_told_to(started: Keeper) -> None:
    fd = filled("it")
    started.put({}, [fd])
    os.close(fd)
    started.end()
    assert gone(started)
    with pytest.raises(HostError, match="doesn't take the guest"):
        started.put({}, [])


def test_whoever_stops_in_the_middle_leaves_nothing(started: Keeper) -> None:
    """What isn't complete isn't kept."""
    fd = filled("half")
    with started._connect() as channel:
        socket.send_fds(channel, [b"1"], [fd])
    os.close(fd)
    assert wait_until(lambda: started.fetch() is None, 5)
    started.leave()
    assert gone(started)
