"""One rehearsal: a twin is handed over from the QEMU that a guest runs in to another, and, if asked, back again."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from virtcpr.actions.rehearsal.modes import TwinMode
from virtcpr.domain.argv import CommandLine
from virtcpr.domain.facts import DomainFacts, Emulator
from virtcpr.errors import HostError, QmpError, QmpRefused, VirtcprError
from virtcpr.host.processes.proc import Process, User
from virtcpr.host.qemu import scratch
from virtcpr.host.qemu.scratch import Directory, Scratch
from virtcpr.model import Rehearsal, Trial

SECONDS = 30.0  # for one hand-over of a twin; a busy host takes three
EXIT_ON_ERROR = (9, 1, 0)  # QEMU's version that got this argument (qapi/migration.json, migrate-incoming)


@dataclass(frozen=True)
class Tried:
    """The result of the way there, and of the way back, if that was tried."""

    there: Rehearsal
    back: Rehearsal | None = None


@dataclass(frozen=True)
class Start:
    """The build that a twin starts in: its binary, its user, its version and build.  ``user`` may raise OSError."""

    binary: Path
    user: Callable[[], User]
    number: tuple[int, int, int]
    build: str

    @classmethod
    def running(cls, facts: DomainFacts) -> Start:
        """As a guest runs; its binary may be deleted."""
        assert facts.process is not None
        assert facts.qemu is not None
        process = Process(facts.process.pid, facts.process.started)
        return cls(process.path / "exe", process.user, facts.qemu.version_tuple, facts.process.build)

    @classmethod
    def installed(cls, emulator: Emulator, user: User) -> Start:
        return cls(Path(emulator.path), lambda: user, emulator.number, emulator.build)


async def try_out(
    start: Start, emulator: Emulator, line: CommandLine, there_by: type[TwinMode], back_by: type[TwinMode] | None
) -> Tried:
    """Hand over the twin with this command line to an emulator; with ``back_by``, then back to where it started.

    Raises nothing that concerns the twins: then the result is ``unsure``.  Both twins have ended afterwards.
    """
    there = Rehearsal(Trial.UNSURE, "it was interrupted")
    try:
        user = start.user()
        with _executable(start.binary) as binary, scratch.directory(user) as place:
            fds, old = (place.fd, binary), f"/proc/self/fd/{binary}"
            twin_mode = there_by(line, place, emulator)
            before = await Scratch.start(old, twin_mode.before(), user=user, fds=fds)
            async with before:
                after = await Scratch.start(emulator.path, twin_mode.after(), user=user, fds=fds)
                async with after:
                    there = await _in_time(twin_mode, before, after)
                    if back_by is None or there.trial is not Trial.GO:
                        return Tried(there)
                    await before.end()
                    returning = back_by(line, Directory(place.fd, "back-"), _first(start, old))
                    async with await Scratch.start(old, returning.after(), user=user, fds=fds) as again:
                        return Tried(there, await _in_time(returning, after, again))
    except (VirtcprError, OSError) as error:
        problem = Rehearsal(Trial.UNSURE, str(error))
        return Tried(there, problem) if there.trial is Trial.GO else Tried(problem)


async def _in_time(twin_mode: TwinMode, before: Scratch, after: Scratch) -> Rehearsal:
    try:
        async with asyncio.timeout(SECONDS):
            return await _hand_over(twin_mode, before, after)
    except TimeoutError:
        return Rehearsal(Trial.UNSURE, f"it took more than {SECONDS:g} s")


def _first(start: Start, path: str) -> Emulator:
    """The build that it started in, as far as a twin needs to know it."""
    return Emulator(path, number=start.number, exit_on_error=start.number >= EXIT_ON_ERROR)


@contextmanager
def _executable(path: Path) -> Iterator[int]:
    """A binary, also one that a process runs and that was deleted meanwhile.

    Raises HostError if others than root can change it: the twin isn't confined as the process is.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        kind = os.fstat(fd)
        if kind.st_uid != 0 or kind.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise HostError("others than root can write to the binary that it runs")
        yield fd
    finally:
        os.close(fd)


async def _hand_over(twin_mode: TwinMode, before: Scratch, after: Scratch) -> Rehearsal:
    """One hand-over, up to where the guest would run in new.

    NO-GO only if QEMU says so.  Raises HostError if the result isn't known: the host may have been short of memory, or
    somebody ended a process.
    """
    try:
        old = await before.monitor(SECONDS)
    except QmpError as error:
        raise HostError(f"the build that it runs in can't be run again: {await _last_words(before, error)}") from error
    try:
        await twin_mode.hand_over(old, after, SECONDS)
    except QmpError as error:
        sure = isinstance(error, QmpRefused) or await after.gave_up()
        words = await _last_words(after, error)
        if not sure:
            raise HostError(words) from error
        return Rehearsal(Trial.NO_GO, words)
    except HostError as error:  # what blocks it, as QEMU says
        return Rehearsal(Trial.NO_GO, error.message)
    return Rehearsal(Trial.GO)


async def _last_words(twin: Scratch, otherwise: HostError) -> str:
    """QEMU's own words, or the error if it had none.  Ends the twin."""
    await twin.end()
    return "; ".join(dict.fromkeys(twin.words)) or otherwise.message
