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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from virtcpr.actions.rehearsal import cache
from virtcpr.actions.rehearsal.defined import Defined
from virtcpr.actions.rehearsal.modes import MODES, WAYS_BACK, Parked
from virtcpr.actions.rehearsal.trial import Start, Tried, try_out
from virtcpr.domain import qmp
from virtcpr.domain.argv import CommandLine
from virtcpr.domain.facts import DomainFacts
from virtcpr.domain.reconcile import reconcile
from virtcpr.domain.twin import NoTwin, twin
from virtcpr.errors import ParseError, QmpError, VirtcprError
from virtcpr.host.libvirt.connection import Domain
from virtcpr.host.qemu import emulator
from virtcpr.model import Mode, Rehearsal, Trial
from virtcpr.plan.outcome import Outcome

log = logging.getLogger(__name__)

Ask = Callable[..., object]


@dataclass
class Case:
    """One guest of a rehearsal: its facts, how to ask its QEMU, and the result.  ``defined``: it doesn't run.

    ``back``: that of the way back to the build that it runs in, None if that wasn't tried.  ``shape``: guests with the
    same one shared a rehearsal.
    """

    facts: DomainFacts
    ask: Ask
    parked: bool = False
    result: Rehearsal = field(default_factory=lambda: Rehearsal(Trial.UNSURE, "it was interrupted"))
    back: Rehearsal | None = None
    shape: str = ""
    defined: Defined | None = None

    @property
    def start(self) -> Start:
        """The build that its twin starts in."""
        if self.defined:
            return Start.installed(self.defined.emulator, self.defined.user)
        return Start.running(self.facts)


def rehearse_outcomes(
    pairs: Iterable[tuple[Domain, Outcome]], mode: Mode, *, back: bool = False, parked: bool = False
) -> None:
    """Rehearse each domain that is to be moved in this mode; a domain that new QEMU refuses becomes ``blocked``.

    With ``back``, the way back, too: one that old QEMU refuses gets a warning.
    """
    left = [(outcome, domain) for domain, outcome in pairs if outcome.result is None]
    outcomes = [(outcome, Case(outcome.facts, domain.monitor, parked)) for outcome, domain in left]
    (rehearse_both_ways if back else rehearse)([case for _, case in outcomes], mode)
    for outcome, case in outcomes:
        outcome.rehearsed(case.result, case.back)


def rehearse(cases: Iterable[Case], mode: Mode = Mode.TRANSFER) -> None:
    """Give each case its result; guests of the same shape and builds share one rehearsal.  Never raises for a case.

    ``mode`` is one of ``modes.MODES``.  What an earlier rehearsal showed isn't tried again.
    """
    known = cache.read()
    by_shape, lines = _shapes(cases, mode, known)
    unknown = {key: by_shape[key][0] for key in by_shape.keys() - known.keys()}
    for key, tried in asyncio.run(_all(unknown, lines, mode, back=False)).items():
        known[key] = tried.there
        cache.note(key, tried.there)
    for key, alike in by_shape.items():
        for case in alike:
            case.result = _applied(known[key], case)


def rehearse_both_ways(cases: Iterable[Case], mode: Mode) -> None:
    """As ``rehearse``, and each case gets a result for the way back.

    Nothing is kept, as the builds needn't be installed; of what is known, only that a guest itself was refused counts.
    """
    by_shape, lines = _shapes(cases, mode, cache.read())
    first = {key: alike[0] for key, alike in by_shape.items()}
    for key, tried in asyncio.run(_all(first, lines, mode, back=True)).items():
        for case in by_shape[key]:
            case.result, case.back = _applied(tried.there, case), tried.back


def _shapes(
    cases: Iterable[Case], mode: Mode, known: Mapping[str, Rehearsal]
) -> tuple[dict[str, list[Case]], dict[str, CommandLine]]:
    """The cases that are to be rehearsed, by shape, and the command line of each shape's twin.

    The others have their results afterwards.
    """
    firmware = functools.cache(emulator.firmware)  # many guests share one emulator
    by_shape: dict[str, list[Case]] = {}
    lines: dict[str, CommandLine] = {}
    for case in cases:
        if case.defined is None and (refused := known.get(_guest(case.facts, mode))):
            case.result = refused
            continue
        try:
            line = _twin(case)
        except (NoTwin, ParseError) as problem:
            case.result = Rehearsal(Trial.UNSURE, str(problem))
            continue
        case.shape = _key(case, line, firmware(case.facts.emulator.path), mode)
        lines[case.shape] = line
        by_shape.setdefault(case.shape, []).append(case)
    return by_shape, lines


def remember_refusal(facts: DomainFacts, mode: Mode, words: str) -> None:
    """New QEMU refused the guest itself, which runs on in old QEMU: the next move to this build is blocked."""
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    cache.note(_guest(facts, mode), Rehearsal(Trial.NO_GO, words, now))


def _guest(facts: DomainFacts, mode: Mode) -> str:
    """This guest since its QEMU was started, and the build that it would be moved to."""
    assert facts.process is not None
    process = facts.process
    return cache.key("guest", mode.value, facts.uuid, str(process.pid), process.started, facts.emulator.build)


def _twin(case: Case) -> CommandLine:
    if case.defined:
        return twin(case.defined.line, case.defined.images)
    facts = case.facts
    assert facts.process is not None, "only a domain with a plan is rehearsed"
    assert facts.qemu is not None
    now = reconcile(facts.process.line, facts.qemu, facts.status_xml)
    if now.refused:
        raise NoTwin(now.refused[0])
    return twin(now.line, facts.qemu.nodes)


def _key(case: Case, line: CommandLine, firmware: str, mode: Mode) -> str:
    """What the result depends on: the mode, both builds, the firmware that they load, and the machine's shape."""
    way = "parked" if case.parked else mode.value
    return cache.key(way, case.start.build, case.facts.emulator.build, firmware, *line.argv())


async def _all(cases: dict[str, Case], lines: dict[str, CommandLine], mode: Mode, *, back: bool) -> dict[str, Tried]:
    limit = asyncio.Semaphore(os.cpu_count() or 1)

    async def rehearse_case(case: Case, line: CommandLine) -> Tried:
        async with limit:
            log.info("%s: rehearsing mode %s", case.facts.name, mode.value)
            twin_mode = Parked if case.parked else MODES[mode]
            return await try_out(case.start, case.facts.emulator, line, twin_mode, WAYS_BACK[mode] if back else None)

    results = await asyncio.gather(*(rehearse_case(case, lines[key]) for key, case in cases.items()))
    return dict(zip(cases, results, strict=True))


def _applied(result: Rehearsal, case: Case) -> Rehearsal:
    """What the twin's result says of this guest.

    The twin is as its build makes it.  A guest that was moved before is as the build that started it made it.  Only
    QEMU can tell the difference: the guest's queues may have another size.
    """
    if case.facts.process is None:
        return result
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
