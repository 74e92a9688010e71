"""Numbers that old QEMU believes to have open are open when it hands them over."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

import pytest

from virtcpr.actions.transfer import stale_fds
from virtcpr.errors import HostError, QmpError, QmpRefused
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.qmp import Monitor


@dataclass
class Old:
    """QEMU's side of ``getfd`` and ``closefd``: it has this process's own descriptors."""

    given: dict[str, int] = field(default_factory=dict)
    refuses: bool = False
    said: list[str] = field(default_factory=list)
    most: int = 1 << 20  # it refuses more

    async def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, *, fd: int | None = None
    ) -> None:
        name = str((arguments or {})["fdname"])
        self.said.append(f"{command} {name}")
        if self.refuses:
            raise QmpError("refused")
        if command == "getfd":
            assert fd is not None
            if len(self.given) == self.most:
                raise QmpError("refused")
            self.given[name] = os.fstat(fd).st_size
        elif name not in self.given:
            raise QmpRefused("not found")
        else:
            del self.given[name]


@pytest.fixture
def process() -> Iterator[Process]:
    """One that has its highest descriptor well above the others."""
    high = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 40)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(["cat"], pass_fds=(high,), **pipes) as echo:  # type: ignore[call-overload]
        os.close(high)
        echo.stdin.write(b"\n")
        echo.stdin.flush()
        assert echo.stdout.readline() == b"\n", "it opens nothing any more"
        yield Process.of(echo.pid)
        echo.kill()


def test_every_free_number_and_some_above(process: Process) -> None:
    old = Old()
    highest = max(process.fd_targets())
    assert highest >= 40
    free = highest + 1 - len(process.fd_targets())
    names = asyncio.run(stale_fds.fill(cast(Monitor, old), process))
    assert len(names) == len(old.given) == free + stale_fds.MARGIN
    assert set(old.given.values()) == {0}

    asyncio.run(stale_fds.let_go(cast(Monitor, old), names))

    assert old.given == {}


def test_what_a_run_that_was_killed_left_is_taken_back_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU closes what had a name when it gets another: that number would be free again."""
    monkeypatch.setattr(stale_fds, "MOST", 2)
    left = os.memfd_create("virtcpr-free1")
    old = Old(given={"virtcpr-free1": 0})
    try:
        asyncio.run(stale_fds.fill(cast(Monitor, old), Process.of(os.getpid())))
    finally:
        os.close(left)
    assert old.said == ["closefd virtcpr-free1", "getfd virtcpr-free0", "getfd virtcpr-free1"]


def test_one_that_came_with_the_guest_keeps_no_other(process: Process) -> None:
    """The monitor of a QEMU that was new once doesn't know it, but its link has the name."""
    old = Old(given={"virtcpr-free1": 0})
    asyncio.run(stale_fds.let_go(cast(Monitor, old), ("virtcpr-free0", "virtcpr-free1")))
    assert old.given == {}


def test_what_is_left_keeps_nobody_from_going_back(process: Process) -> None:
    asyncio.run(stale_fds.let_go(cast(Monitor, Old(refuses=True)), ("virtcpr-free0",)))


def test_what_it_got_before_it_refused_is_taken_back(process: Process) -> None:
    """They would keep the numbers for as long as it lives."""
    old = Old(most=3)
    with pytest.raises(QmpError, match="refused"):
        asyncio.run(stale_fds.fill(cast(Monitor, old), process))
    assert old.given == {}


def test_a_process_that_is_gone() -> None:
    with pytest.raises(HostError, match="process 4194304 can't be examined: No such file"):
        asyncio.run(stale_fds.fill(cast(Monitor, Old()), Process(4194304, "1")))


def test_a_number_as_high_as_can_be_does_not_keep_the_daemon_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stale_fds, "MOST", 3)
    old = Old()
    assert len(asyncio.run(stale_fds.fill(cast(Monitor, old), Process.of(os.getpid())))) == 3
    asyncio.run(stale_fds.let_go(cast(Monitor, old), tuple(old.given)))
