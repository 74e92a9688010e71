"""Waits up to a deadline, on a clock that only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from virtcpr.host.system.wait import wait_until
from virtcpr.host.system.wait_async import wait_until_async


@dataclass
class Clock:
    """``looks`` are the times of the looks; each takes ``takes`` seconds."""

    takes: float = 0.0
    now: float = 100.0
    looks: list[float] = field(default_factory=list)

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def look(self) -> int:
        """How often it was looked."""
        self.looks.append(self.now)
        self.now += self.takes
        return len(self.looks)


def wait(clock: Clock, seconds: float, until: Callable[[int], object]) -> int:
    return wait_until(clock.look, seconds, until=until, poll=2, clock=clock.read, pause=clock.sleep)


def wait_async(clock: Clock, seconds: float, until: Callable[[int], object]) -> int:
    async def look() -> int:
        return clock.look()

    async def pause(seconds: float) -> None:
        clock.sleep(seconds)

    return asyncio.run(wait_until_async(look, seconds, until=until, poll=2, clock=clock.read, pause=pause))


BOTH = pytest.mark.parametrize("waits", [wait, wait_async])


@BOTH
def test_what_is_so_at_once_costs_no_time(waits: Callable[..., int]) -> None:
    clock = Clock()
    assert waits(clock, 0, lambda seen: True) == 1
    assert clock.looks == [100]


@BOTH
def test_it_is_looked_until_it_is_so(waits: Callable[..., int]) -> None:
    clock = Clock()
    assert waits(clock, 60, lambda seen: seen == 3) == 3
    assert clock.looks == [100, 102, 104]


@BOTH
def test_the_last_look_is_at_the_deadline(waits: Callable[..., int]) -> None:
    clock = Clock()
    assert waits(clock, 5, lambda seen: seen == 4) == 4
    assert clock.looks == [100, 102, 104, 105]


@BOTH
@pytest.mark.parametrize(("seconds", "looks"), [(0, [100]), (5, [100, 102, 104, 105])])
def test_after_it_nobody_looks(waits: Callable[..., int], seconds: float, looks: list[float]) -> None:
    clock = Clock()
    assert waits(clock, seconds, lambda seen: False) == len(looks)
    assert clock.looks == looks


@BOTH
def test_a_look_beyond_the_deadline_is_the_last(waits: Callable[..., int]) -> None:
    clock = Clock(takes=35)
    assert waits(clock, 60, lambda seen: False) == 2
    assert clock.looks == [100, 137]


def test_without_more_the_first_true_value_counts() -> None:
    seen = iter([None, "", "here"])
    clock = Clock()
    assert wait_until(lambda: next(seen), 60, clock=clock.read, pause=clock.sleep) == "here"
    assert wait_until(lambda: None, 60, clock=clock.read, pause=clock.sleep) is None


def test_what_looking_raises_is_raised() -> None:
    def look() -> bool:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        wait_until(look, 60)
