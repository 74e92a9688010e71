"""The rehearsal: a twin of the guest goes from its QEMU to the one it would be moved to, in the same mode (DESIGN §6).

Releases of QEMU exist that refuse what another one saved.  The twin finds out before the guest is touched: the same
machine, in the build that the guest runs in, with blank disks and nobody at the other end of its wires, never started.
It isn't the guest: what a guest's driver made of a device, it can't show.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from virtcpr.actions.rehearsal import cache
from virtcpr.actions.rehearsal.modes import ACTS, Act
from virtcpr.domain import qmp
from virtcpr.domain.argv import CommandLine
from virtcpr.domain.facts import DomainFacts
from virtcpr.domain.reconcile import reconcile
from virtcpr.domain.twin import NoTwin, twin
from virtcpr.errors import HostError, ParseError, QmpError, QmpRefused, VirtcprError
from virtcpr.host.libvirt.connection import Domain
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu import emulator, scratch
from virtcpr.host.qemu.scratch import Scratch
from virtcpr.model import Mode, Rehearsal, Trial
from virtcpr.plan.outcome import Outcome

log = logging.getLogger(__name__)

SECONDS = 30.0  # for one rehearsal; a machine that is loaded takes three
Ask = Callable[..., object]


@dataclass
class Part:
    """One guest in it: whom to ask about its state, and where to put what came out."""

    facts: DomainFacts
    ask: Ask
    result: Rehearsal = field(default_factory=lambda: Rehearsal(Trial.UNSURE, "it was interrupted"))


def rehearse_outcomes(pairs: Iterable[tuple[Domain, Outcome]], mode: Mode) -> None:
    """Rehearse each domain that is to be moved in this mode; one that new QEMU refuses becomes ``blocked``."""
    outcomes = [(outcome, Part(outcome.facts, domain.monitor)) for domain, outcome in pairs if outcome.result is None]
    rehearse([part for _, part in outcomes], mode)
    for outcome, part in outcomes:
        outcome.rehearsed(part.result)


def rehearse(parts: Iterable[Part], mode: Mode = Mode.TRANSFER) -> None:
    """Give each part its result; guests of the same shape and builds have one rehearsal.  Never raises for them.

    ``mode`` is one of ``acts.ACTS``.
    """
    firmware = functools.cache(emulator.firmware)  # guests by the dozen have one emulator
    casts: dict[str, list[Part]] = {}
    lines: dict[str, CommandLine] = {}
    for part in parts:
        try:
            line = _twin(part.facts)
        except (NoTwin, ParseError) as problem:
            part.result = Rehearsal(Trial.UNSURE, str(problem))
            continue
        key = _key(part.facts, line, firmware(part.facts.emulator.path), mode)
        lines[key] = line
        casts.setdefault(key, []).append(part)
    known = cache.read()
    unknown = {key: casts[key][0] for key in casts.keys() - known.keys()}
    for key, result in asyncio.run(_all(unknown, lines, mode)).items():
        known[key] = result
        cache.note(key, result)
    for key, cast in casts.items():
        for part in cast:
            part.result = _applied(known[key], part)


def _twin(facts: DomainFacts) -> CommandLine:
    assert facts.process is not None, "only a domain with a plan is rehearsed"
    assert facts.qemu is not None
    now = reconcile(facts.process.line, facts.qemu, facts.status_xml)
    if now.refused:
        raise NoTwin(now.refused[0])
    return twin(now.line, facts.qemu.nodes)


def _key(facts: DomainFacts, line: CommandLine, firmware: str, mode: Mode) -> str:
    """What the result depends on: the mode, both builds, the firmware that they load, and the machine's shape."""
    assert facts.process is not None
    return cache.key(mode.value, facts.process.build, facts.emulator.build, firmware, *line.argv())


async def _all(parts: dict[str, Part], lines: dict[str, CommandLine], mode: Mode) -> dict[str, Rehearsal]:
    limit = asyncio.Semaphore(os.cpu_count() or 1)

    async def one(part: Part, line: CommandLine) -> Rehearsal:
        async with limit:
            log.info("%s: rehearsing mode %s", part.facts.name, mode.value)
            return await _rehearse(part.facts, line, mode)

    results = await asyncio.gather(*(one(part, lines[key]) for key, part in parts.items()))
    return dict(zip(parts, results, strict=True))


async def _rehearse(facts: DomainFacts, line: CommandLine, mode: Mode) -> Rehearsal:
    assert facts.process is not None
    process = Process(facts.process.pid, facts.process.started)
    try:
        user = process.user()
        with _executable(process) as binary, scratch.directory(user) as place:
            act = ACTS[mode](line, place)
            fds = (place.fd, binary)
            before = await Scratch.start(f"/proc/self/fd/{binary}", act.before(), user=user, fds=fds)
            async with before:
                program = facts.emulator.path
                async with await Scratch.start(program, act.after(), user=user, fds=fds) as after:
                    async with asyncio.timeout(SECONDS):
                        return await _hand_over(act, before, after)
    except TimeoutError:
        return Rehearsal(Trial.UNSURE, f"it took more than {SECONDS:g} s")
    except (VirtcprError, OSError) as error:
        return Rehearsal(Trial.UNSURE, str(error))


@contextmanager
def _executable(process: Process) -> Iterator[int]:
    """The binary that a process runs, also where it was deleted meanwhile.

    Raises HostError for one that isn't root's alone to change: the twin isn't confined as the process is.
    """
    fd = os.open(process.path / "exe", os.O_RDONLY | os.O_CLOEXEC)
    try:
        kind = os.fstat(fd)
        if kind.st_uid != 0 or kind.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise HostError("others than root can write to the binary that it runs")
        yield fd
    finally:
        os.close(fd)


async def _hand_over(act: Act, before: Scratch, after: Scratch) -> Rehearsal:
    """One hand-over, up to where the guest would run in new.

    NO-GO only where QEMU says so.  Raises HostError where nothing can be told of it: the host may have been short of
    memory, or somebody ended a process.
    """
    try:
        old = await before.monitor(SECONDS)
    except QmpError as error:
        raise HostError(f"the build that it runs in can't be run again: {await _said(before, error)}") from error
    try:
        await act.play(old, after, SECONDS)
    except QmpError as error:
        sure = isinstance(error, QmpRefused) or await after.gave_up()
        said = await _said(after, error)
        if not sure:
            raise HostError(said) from error
        return Rehearsal(Trial.NO_GO, said)
    except HostError as error:  # what QEMU says that blocks it
        return Rehearsal(Trial.NO_GO, error.message)
    return Rehearsal(Trial.GO)


async def _said(one: Scratch, otherwise: HostError) -> str:
    """QEMU's own words, or the error where it had none.  It is ended for it."""
    await one.end()
    return "; ".join(dict.fromkeys(one.words)) or otherwise.message


def _applied(result: Rehearsal, part: Part) -> Rehearsal:
    """What the twin's result says of this guest.

    The twin is as its build makes it.  A guest that was moved here before is as the build that it was started in made
    it, and only QEMU can tell how that differs: its queues do where another build gave them another size.
    """
    assert part.facts.process is not None
    moved = any(part.facts.process.line.named("incoming"))
    if result.trial is not Trial.NO_GO or not moved:
        return result
    try:
        if not any(_made_elsewhere(part.ask)):
            return result
    except (VirtcprError, KeyError, ValueError, TypeError) as error:
        return Rehearsal(Trial.UNSURE, f"a twin is refused ({result.words}), but it isn't like the guest: {error}")
    return Rehearsal(
        Trial.UNSURE,
        f"a twin is refused ({result.words}), but the guest was started in another build and isn't like it",
    )


def _made_elsewhere(ask: Ask) -> Iterator[bool]:
    """For each virtio queue, whether it has another size than this build would give it (hw/virtio/virtio-qmp.c)."""
    for device in qmp.items(ask("x-query-virtio")):
        path = qmp.obj(device)["path"]
        for number in range(1024):
            try:
                queue = qmp.obj(ask("x-query-virtio-queue-status", {"path": path, "queue": number}))
            except QmpError:
                break  # there is no such queue: it was the last one
            yield queue["vring-num"] != queue["vring-num-default"]
