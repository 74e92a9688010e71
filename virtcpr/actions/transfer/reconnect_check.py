"""Before libvirt's daemon is started: ask QEMU what the daemon will ask, and check that it will take the guest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

from virtcpr.actions.monitor import query
from virtcpr.domain import status
from virtcpr.domain.status import StatusFile
from virtcpr.errors import HostError, ParseError, QmpError, VirtcprError
from virtcpr.host.files import atomic
from virtcpr.host.processes import placement
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.qmp import Monitor, Qmp
from virtcpr.plan import reconnect
from virtcpr.plan.guest import Guest
from virtcpr.plan.reconnect import Answers, Disagreement, Query

ANSWER_SECONDS = 5.0  # per query; libvirt itself would wait for ever, and answer nobody meanwhile


async def ask(monitor: Qmp, process: Process, questions: Sequence[Query] = reconnect.QUERIES) -> Answers:
    """Ask all that libvirt asks, at one go, and read ``/proc``.  Raises HostError and ParseError."""
    readings = await asyncio.gather(*(_ask(monitor, question) for question in questions))
    answers = {
        question.what: reading for question, reading in zip(questions, readings, strict=True) if reading is not None
    }
    return answers | {what: frozenset({text}) for what, text in placement.identity(process).items()}


async def _ask(monitor: Qmp, question: Query) -> frozenset[str] | None:
    try:
        return question.reads(await monitor.execute(question.command, question.arguments))
    except QmpError:
        if not question.optional:
            raise
        return None
    except ParseError as error:
        raise HostError(f"{monitor.name} answered {question.command} with something unexpected: {error}") from error


async def first(guest: Guest, old: tuple[Process, Qmp], new: tuple[Process, Qmp]) -> Answers:
    """While the guest still runs in old: new must answer as old does, and as libvirt's record says.

    Returns old's answers, for ``second``.  Raises HostError with everything that differs.
    """
    expected, answers = await asyncio.gather(*(ask(monitor, process) for process, monitor in (old, new)))
    record = reconnect.recorded(status.read(guest.status_xml))
    differing = dict.fromkeys((*reconnect.compare(expected, answers), *reconnect.compare(record, answers)))
    if differing:
        raise HostError(
            f"{guest.name}: new QEMU isn't the machine that libvirt expects: {reconnect.words(tuple(differing))}"
        )
    return expected


async def unchanged(guest: Guest, process: Process, old: Qmp, expected: Answers) -> None:
    """What libvirt can change while a migration is set up, an external snapshot for one, is as it was.

    Raises HostError.
    """
    asked = [question for question in reconnect.QUERIES if question.what in reconnect.CHANGEABLE]
    if differing := reconnect.compare(expected, await ask(old, process, asked)):
        raise HostError(f"{guest.name} changed while new QEMU was made: {reconnect.words(differing)}", hint="try again")


async def second(guest: Guest, process: Process, expected: Answers | None) -> tuple[Disagreement, ...]:
    """With the other QEMU dead: compare as libvirt will, by the files and the socket that it will use.

    Nobody else may be connected to the monitor.  ``expected`` are old's answers, None if they aren't known any more.
    Raises nothing: a file that can't be read, or a QEMU that doesn't answer, is a disagreement, too.
    """
    try:
        record = status.read(atomic.read_text(Path(guest.status_path)))
    except (VirtcprError, ValueError) as error:
        return (Disagreement(f"libvirt's record of the guest: {error}"),)
    problems = list(_files(guest, process, record))
    try:
        monitor = await Monitor.connect(guest.monitor, guest.name, timeout=ANSWER_SECONDS)
    except QmpError as error:
        return (*problems, Disagreement(error.message))
    try:
        if await query.belongs(monitor, process):
            problems += _judged(guest, record, await ask(monitor, process), expected)
        else:
            problems.append(Disagreement(f"another process than {process.pid} answers on {guest.monitor}"))
    except (VirtcprError, OSError) as error:
        problems.append(Disagreement(str(error)))
    finally:
        await monitor.close()
    return tuple(dict.fromkeys(problems))


def _files(guest: Guest, process: Process, record: StatusFile) -> Iterator[Disagreement]:
    if record.pid != process.pid:
        yield Disagreement(f"libvirt's record names process {record.pid}, the guest is in process {process.pid}")
    if (record.monitor, record.lib_dir) != (guest.monitor, guest.lib_dir):
        yield Disagreement(f"libvirt's record names another monitor than {guest.monitor}")
    key = Path(guest.lib_dir) / "master-key.aes"  # qemuDomainMasterKeyReadFile
    try:
        size = key.stat().st_size
    except OSError as error:
        yield Disagreement(f"{key} can't be read: {error.strerror}")
    else:
        if size != reconnect.MASTER_KEY_BYTES:
            yield Disagreement(f"{key} has {size} bytes, libvirt expects {reconnect.MASTER_KEY_BYTES}")


def _judged(guest: Guest, record: StatusFile, answers: Answers, expected: Answers | None) -> Iterator[Disagreement]:
    (state,) = answers[reconnect.STATUS]
    yield from reconnect.judge_state(record, state, runs=guest.runs)
    yield from reconnect.compare(reconnect.recorded(record), answers)
    yield from reconnect.compare(expected or {}, answers)
