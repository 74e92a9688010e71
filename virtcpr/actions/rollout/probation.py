"""After their move guests are looked at for a while; one that shows a sign of trouble goes back, once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from virtcpr.actions.records.batch import current, undoing
from virtcpr.actions.rollout import notice
from virtcpr.domain.facts import DomainFacts
from virtcpr.errors import HostError, VirtcprError
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.libvirt.events import Events
from virtcpr.host.processes.interrupt import Interrupt
from virtcpr.host.qemu import kept
from virtcpr.host.report import hooks_d
from virtcpr.model import Probation, Progress, Request, Result, UpgradeReport, Watch
from virtcpr.plan.findings.table import SIGN, SIGN_STAYS

log = logging.getLogger(__name__)
Move = TypeVar("Move", bound=notice.Moved)
EVENT = "watch-domain"
POLL = 5.0  # s between two looks at a guest
EVENT_POLL = 0.2  # s
AGENT_SECONDS = 5
SILENT = 3  # looks without an answer of the agent
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
    """``again`` plans another batch of the same mode, on the connection of the first."""

    def __init__(self, rules: Probation, request: Request, again: Callable[[Request, Connection], Batch[Move]]) -> None:
        self.rules, self.request, self.again = rules, request, again

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
        request = replace(
            self.request, domains=tuple(ways), every=False, emulator=None, emulators=ways, rollout=None, force=False,
            unready=False, max_pause_ms=None, probation=None, exclude=(),
        )  # fmt: skip
        if not ways:
            return {}
        with undoing(current().number, why):
            try:
                back = self.again(request, batch.connection)
            except VirtcprError as error:
                return dict.fromkeys(ways, (None, error.message))
            back.interrupt = batch.interrupt
            back.move([move for move in back.moves if move.result is None], watch)
            batch.connection = back.connection
            batch.notes += back.report().notes
        return {move.facts.uuid: (move.result, _words(move)) for move in back.moves}


def _former(move: notice.Moved) -> tuple[str, str]:
    return move.facts.uuid, move.facts.process.build if move.facts.process else ""


def _words(move: notice.Moved) -> str:
    return "; ".join(finding.message for finding in move.report().findings)


def _first_signs(batch: Batch[Move], moves: Sequence[Move], place: notice.Place, deadline: float) -> dict[str, str]:
    """UUID and words of what is seen first; empty at the deadline, or after a signal."""
    by_uuid = {move.facts.uuid: move for move in moves}
    silent = dict.fromkeys(by_uuid, 0)
    with Events(batch.connection.uri) as events:
        looked = 0.0
        while not batch.interrupt.requested and (now := time.monotonic()) < deadline:
            if signs := {uuid: words for uuid, words in events.take() if uuid in by_uuid}:
                return signs
            if now - looked >= POLL:
                looked = now
                if signs := dict(_looks(batch.connection, by_uuid.values(), place, silent)):
                    return signs
            time.sleep(min(EVENT_POLL, max(deadline - time.monotonic(), 0)))
    return {}


def _looks(
    connection: Connection, moves: Collection[notice.Moved], place: notice.Place, silent: dict[str, int]
) -> Iterator[tuple[str, str]]:
    """``silent`` counts the looks without an answer of the agent."""
    for move in moves:
        facts = move.facts
        words = _sign(connection, facts)
        if words is None and facts.agent:
            answers = _answers(connection, facts)
            silent[facts.uuid] = 0 if answers else silent[facts.uuid] + 1
            if silent[facts.uuid] >= SILENT:
                words = "its guest agent doesn't answer any more"
        if words is None:
            words = hooks_d.ask(EVENT, lambda move=move: notice.document(EVENT, place, [move]))  # type: ignore[misc]
        if words is not None:
            yield facts.uuid, words


def _sign(connection: Connection, facts: DomainFacts) -> str | None:
    try:
        domain = connection.find(facts.uuid)
        if domain is None or domain.id is None:
            return None  # somebody has ended it; what wasn't asked for is an event
        state, reason = domain.state()
        if state == "crashed" or reason in BAD_PAUSES:
            return f"it is {state}" + (f" ({reason})" if reason else "")
        domain.monitor("query-status")
    except HostError as error:
        return f"its QEMU doesn't answer: {error.message}"
    return None


def _answers(connection: Connection, facts: DomainFacts) -> bool:
    domain = connection.find(facts.uuid)
    return domain is None or domain.id is None or domain.agent_answers(AGENT_SECONDS)
