"""After their move guests are looked at for a while; one that shows a sign of trouble goes back, once."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from virtcpr.actions.records.batch import current, undoing
from virtcpr.actions.records.unsettled import refuse_unsettled
from virtcpr.actions.rollout import notice
from virtcpr.errors import HostError, VirtcprError
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.libvirt.events import REBOOTED, Events
from virtcpr.host.processes.interrupt import Interrupt
from virtcpr.host.qemu import kept
from virtcpr.host.report import hooks_d
from virtcpr.model import ExitCode, Probation, Progress, Request, Result, UpgradeReport, Watch
from virtcpr.plan.findings.table import SIGN, SIGN_STAYS

log = logging.getLogger(__name__)
Move = TypeVar("Move", bound=notice.Moved)
EVENT = "watch-domain"
POLL = 5.0  # s between two looks at a guest
EVENT_POLL = 0.2  # s
AGENT_SECONDS = 5
SILENT = 3  # looks in a row without an answer
# virDomainPausedReason, as connection.PAUSED; others are somebody's wish.
BAD_PAUSES = ("I/O error", "watchdog", "crashed")


class Batch(Protocol[Move]):
    """A batch of one mode."""

    connection: Connection
    interrupt: Interrupt
    moves: list[Move]
    notes: list[str]

    def move(self, moves: Sequence[Move], watch: Watch) -> None: ...
    def report(self) -> UpgradeReport: ...


class OnProbation(Generic[Move]):
    """``again`` plans another batch of the same mode, on the connection of the first.

    ``codes``: the exit codes of the batches in which guests went back.  After one, libvirt's daemon may be away.
    """

    def __init__(self, rules: Probation, request: Request, again: Callable[[Request, Connection], Batch[Move]]) -> None:
        self.rules, self.request, self.again = rules, request, again
        self.codes: list[ExitCode] = []

    def watch(self, batch: Batch[Move], moves: Sequence[Move], place: notice.Place, watch: Watch) -> None:
        """Look at what was moved until the time is over, or a signal comes.

        A guest that shows a sign of trouble goes back, and with ``whole_wave`` all others with it; its result says so.
        """
        deadline = time.monotonic() + self.rules.seconds
        left = [move for move in moves if move.result is Result.UPGRADED]
        while left and not batch.interrupt.requested:
            watch(Progress("", f"the guests are watched for {max(deadline - time.monotonic(), 0):.0f} s"))
            signs = _first_signs(batch, left, place, deadline)
            if not signs:
                return
            going = left if self.rules.whole_wave else [move for move in left if move.facts.uuid in signs]
            self._back(batch, going, signs, watch)
            left = [move for move in left if move not in going]

    def _back(self, batch: Batch[Move], going: Sequence[Move], signs: Mapping[str, str], watch: Watch) -> None:
        """Each ends as rolled back, or, if it can't go back, as failed: it runs on where it is."""
        others = f"another guest of its wave showed a sign of trouble: {'; '.join(signs.values())}"
        why = {move.facts.uuid: signs.get(move.facts.uuid, others) for move in going}
        for uuid, words in signs.items():
            log.warning("%s: %s; it goes back", next(m.facts.name for m in going if m.facts.uuid == uuid), words)
        results = self._moved_back(batch, going, why, watch)
        for move in going:
            result, words = results.get(move.facts.uuid, (None, "its former build isn't kept"))
            went = result is Result.UPGRADED
            rule = SIGN if went else SIGN_STAYS
            finding = rule.finding(move.facts.name, {"sign": why[move.facts.uuid], "words": words})
            unsettled = result is Result.UNKNOWN
            move.end(Result.UNKNOWN if unsettled else Result.ROLLED_BACK if went else Result.FAILED, finding)
            watch(Progress(move.facts.name, "", result=move.result))

    def _moved_back(
        self, batch: Batch[Move], going: Sequence[Move], why: Mapping[str, str], watch: Watch
    ) -> dict[str, tuple[Result | None, str]]:
        """By UUID: the result, and what stood against it."""
        programs = {one.build: one.program for one in kept.builds()}
        ways = {uuid: programs[build] for uuid, build in map(_former, going) if build in programs}
        ended = [uuid for uuid in ways if not _runs(batch.connection, uuid)]
        results: dict[str, tuple[Result | None, str]] = dict.fromkeys(ended, (None, "it has ended"))
        ways = {uuid: program for uuid, program in ways.items() if uuid not in ended}
        request = replace(
            self.request, domains=tuple(ways), every=False, emulator=None, emulators=ways, rollout=None, force=False,
            unready=False, max_pause_ms=None, probation=None, exclude=(),
        )  # fmt: skip
        if not ways:
            return results
        with undoing(current().number, why):
            try:
                refuse_unsettled()  # also of this batch: a way back may have been cut off
                back = self.again(request, batch.connection)
            except (VirtcprError, OSError) as error:
                return results | dict.fromkeys(ways, (None, str(error)))
            back.interrupt = batch.interrupt
            back.move([move for move in back.moves if move.result is None], watch)
            batch.connection = back.connection
            report = back.report()
            self.codes.append(report.exit_code)
            batch.notes += _notes(report)
        return results | {move.facts.uuid: (move.result, _words(move)) for move in back.moves}


def _notes(report: UpgradeReport) -> tuple[str, ...]:
    """The absence of the daemon isn't in the batch's own."""
    away = () if report.blackout_ms is None else (f"going back: blackout {report.blackout_ms / 1000:.1f} s",)
    return (*report.notes, *away)


def _runs(connection: Connection, uuid: str) -> bool:
    """Also if that isn't known: then the move says why it can't be made."""
    try:
        domain = connection.find(uuid)
    except HostError:
        return True
    return domain is not None and domain.id is not None


def _former(move: notice.Moved) -> tuple[str, str]:
    return move.facts.uuid, move.facts.process.build if move.facts.process else ""


def _words(move: notice.Moved) -> str:
    return "; ".join(finding.message for finding in move.report().findings)


def _first_signs(batch: Batch[Move], moves: Sequence[Move], place: notice.Place, deadline: float) -> dict[str, str]:
    """UUID and words of what is seen first; empty at the deadline, or after a signal.

    A daemon that is restarted meanwhile is no sign: the guests are looked at when it is back.
    """
    looks = _Looks(moves, place)

    def goes_on() -> bool:
        return not batch.interrupt.requested and time.monotonic() < deadline

    while goes_on():
        try:
            with Events(batch.connection.uri) as events:
                while goes_on() and batch.connection.alive():
                    if signs := looks.signs(events.take()) or looks.due(batch.connection):
                        return signs
                    time.sleep(EVENT_POLL)
        except HostError as error:
            log.info("%s", error.message)
            time.sleep(EVENT_POLL)
        if not batch.connection.alive():
            with suppress(HostError):
                batch.connection = Connection(batch.connection.uri)
    return {}


class _Looks(Generic[Move]):
    """What is seen of these guests, one look after the other."""

    def __init__(self, moves: Sequence[Move], place: notice.Place) -> None:
        self.moves, self.place = {move.facts.uuid: move for move in moves}, place
        self.answered = {uuid for uuid, move in self.moves.items() if move.facts.agent}
        self.silent: Counter[str] = Counter()
        self._last: float | None = None

    def signs(self, events: Sequence[tuple[str, str]]) -> dict[str, str]:
        """A guest that reboots has no agent for a while, which is no sign."""
        for uuid, words in events:
            if words == REBOOTED:
                self.answered.discard(uuid)
        return {uuid: words for uuid, words in events if uuid in self.moves and words != REBOOTED}

    def due(self, connection: Connection) -> dict[str, str]:
        """Look at each guest, if it is time to; UUID and words of each that shows a sign."""
        now = time.monotonic()
        if self._last is not None and now - self._last < POLL:
            return {}
        self._last = now
        seen = {uuid: self._sign(connection, move) for uuid, move in self.moves.items()}
        return {uuid: words for uuid, words in seen.items() if words is not None}

    def _sign(self, connection: Connection, move: Move) -> str | None:
        facts = move.facts
        try:
            domain = connection.find(facts.uuid)
            if domain is None or domain.id is None:
                return None  # somebody has ended it; what wasn't asked for is an event
            state, reason = domain.state()
            if state == "crashed" or reason in BAD_PAUSES:
                return f"it is {state}" + (f" ({reason})" if reason else "")
            if domain.job() is None:  # else libvirt lets no command pass
                domain.monitor("query-status")
            self.silent[f"{facts.uuid} QEMU"] = 0
            if facts.uuid in self.answered and self._often(facts.uuid, not domain.agent_answers(AGENT_SECONDS)):
                return "its guest agent doesn't answer any more"
        except VirtcprError as error:
            if connection.alive() and self._often(f"{facts.uuid} QEMU", True):
                return f"its QEMU doesn't answer: {error.message}"
            return None
        return hooks_d.ask(EVENT, lambda: notice.document(EVENT, self.place, [move]))

    def _often(self, what: str, silent: bool) -> bool:
        """Whether it has been silent so often in a row."""
        self.silent[what] = self.silent[what] + 1 if silent else 0
        return self.silent[what] >= SILENT
