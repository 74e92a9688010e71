"""The rehearsal: a twin of the guest goes from its QEMU to the one it would be moved to, in the same mode.

Some releases of QEMU refuse what another release saved.  The twin shows it before the guest is touched: the same
machine, in the build that the guest runs in, with blank disks, null network and character back ends, never started.
It isn't the guest: it can't show what the guest's drivers made of a device.
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
from datetime import datetime

from virtcpr.actions.rehearsal import cache
from virtcpr.actions.rehearsal.modes import MODES, TwinMode
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

SECONDS = 30.0  # for one rehearsal; a busy host takes three
Ask = Callable[..., object]


@dataclass
class Case:
    """One guest of a rehearsal: its facts, how to ask its QEMU, and the result."""

    facts: DomainFacts
    ask: Ask
    result: Rehearsal = field(default_factory=lambda: Rehearsal(Trial.UNSURE, "it was interrupted"))


def rehearse_outcomes(pairs: Iterable[tuple[Domain, Outcome]], mode: Mode) -> None:
    """Rehearse each domain that is to be moved in this mode; a domain that new QEMU refuses becomes ``blocked``."""
    outcomes = [(outcome, Case(outcome.facts, domain.monitor)) for domain, outcome in pairs if outcome.result is None]
    rehearse([case for _, case in outcomes], mode)
    for outcome, case in outcomes:
        outcome.rehearsed(case.result)


def rehearse(cases: Iterable[Case], mode: Mode = Mode.TRANSFER) -> None:
    """Give each case its result; guests of the same shape and builds share one rehearsal.  Never raises for a case.

    ``mode`` is one of ``modes.MODES``.
    """
    firmware = functools.cache(emulator.firmware)  # many guests share one emulator
    by_shape: dict[str, list[Case]] = {}
    lines: dict[str, CommandLine] = {}
    known = cache.read()
    for case in cases:
        if refused := known.get(_guest(case.facts, mode)):
            case.result = refused
            continue
        try:
            line = _twin(case.facts)
        except (NoTwin, ParseError) as problem:
            case.result = Rehearsal(Trial.UNSURE, str(problem))
            continue
        key = _key(case.facts, line, firmware(case.facts.emulator.path), mode)
        lines[key] = line
        by_shape.setdefault(key, []).append(case)
    unknown = {key: by_shape[key][0] for key in by_shape.keys() - known.keys()}
    for key, result in asyncio.run(_all(unknown, lines, mode)).items():
        known[key] = result
        cache.note(key, result)
    for key, alike in by_shape.items():
        for case in alike:
            case.result = _applied(known[key], case)


def remember_refusal(facts: DomainFacts, mode: Mode, words: str) -> None:
    """New QEMU refused the guest itself, which runs on in old QEMU: the next move to this build is blocked."""
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    cache.note(_guest(facts, mode), Rehearsal(Trial.NO_GO, words, now))


def _guest(facts: DomainFacts, mode: Mode) -> str:
    """This guest since its QEMU was started, and the build that it would be moved to."""
    assert facts.process is not None
    process = facts.process
    return cache.key("guest", mode.value, facts.uuid, str(process.pid), process.started, facts.emulator.build)


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


async def _all(cases: dict[str, Case], lines: dict[str, CommandLine], mode: Mode) -> dict[str, Rehearsal]:
    limit = asyncio.Semaphore(os.cpu_count() or 1)

    async def rehearse_case(case: Case, line: CommandLine) -> Rehearsal:
        async with limit:
            log.info("%s: rehearsing mode %s", case.facts.name, mode.value)
            return await _rehearse(case.facts, line, mode)

    results = await asyncio.gather(*(rehearse_case(case, lines[key]) for key, case in cases.items()))
    return dict(zip(cases, results, strict=True))


async def _rehearse(facts: DomainFacts, line: CommandLine, mode: Mode) -> Rehearsal:
    assert facts.process is not None
    process = Process(facts.process.pid, facts.process.started)
    try:
        user = process.user()
        with _executable(process) as binary, scratch.directory(user) as place:
            twin_mode = MODES[mode](line, place, facts.emulator)
            fds = (place.fd, binary)
            before = await Scratch.start(f"/proc/self/fd/{binary}", twin_mode.before(), user=user, fds=fds)
            async with before:
                program = facts.emulator.path
                async with await Scratch.start(program, twin_mode.after(), user=user, fds=fds) as after:
                    async with asyncio.timeout(SECONDS):
                        return await _hand_over(twin_mode, before, after)
    except TimeoutError:
        return Rehearsal(Trial.UNSURE, f"it took more than {SECONDS:g} s")
    except (VirtcprError, OSError) as error:
        return Rehearsal(Trial.UNSURE, str(error))


@contextmanager
def _executable(process: Process) -> Iterator[int]:
    """The binary that a process runs, also if it was deleted meanwhile.

    Raises HostError if others than root can change it: the twin isn't confined as the process is.
    """
    fd = os.open(process.path / "exe", os.O_RDONLY | os.O_CLOEXEC)
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


def _applied(result: Rehearsal, case: Case) -> Rehearsal:
    """What the twin's result says of this guest.

    The twin is as its build makes it.  A guest that was moved before is as the build that started it made it.  Only
    QEMU can tell the difference: the guest's queues may have another size.
    """
    assert case.facts.process is not None
    moved = any(case.facts.process.line.named("incoming"))
    if result.trial is not Trial.NO_GO or not moved:
        return result
    try:
        if not any(_made_elsewhere(case.ask)):
            return result
    except VirtcprError as error:
        return Rehearsal(Trial.UNSURE, f"a twin is refused ({result.words}), but it isn't like the guest: {error}")
    return Rehearsal(
        Trial.UNSURE,
        f"a twin is refused ({result.words}), but the guest was started in another build and isn't like it",
    )


def _made_elsewhere(ask: Ask) -> Iterator[bool]:
    """For each virtio queue, whether it has another size than this build would give it (hw/virtio/virtio-qmp.c)."""
    for device in qmp.items(ask("x-query-virtio")):
        path = qmp.text(qmp.obj(device)["path"])
        for number in range(1024):
            try:
                queue = qmp.obj(ask("x-query-virtio-queue-status", {"path": path, "queue": number}))
            except QmpError:
                break  # no such queue: the previous one was the last
            yield queue["vring-num"] != queue["vring-num-default"]
