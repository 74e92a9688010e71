"""What the administrator's programs are told: one JSON object on stdin."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from virtcpr.domain.facts import DomainFacts
from virtcpr.model import DomainReport, Finding, Outlook, Result, Side

SCHEMA = 1


@dataclass(frozen=True)
class Place:
    """Which wave of how many."""

    number: int
    of: int
    canary: bool


class Moved(Protocol):
    """A move, before or after it is made."""

    facts: DomainFacts
    result: Result | None

    def outlook(self) -> Outlook: ...
    def report(self) -> DomainReport: ...
    def end(self, result: Result, *findings: Finding) -> None: ...
    def turn_back(self, reason: str, hint: str | None = None) -> None: ...


def document(event: str, place: Place, moves: Sequence[Moved]) -> str:
    """Members are added, never changed: docs/waves.md describes them."""
    wave = {"number": place.number, "of": place.of, "canary": place.canary}
    return json.dumps({"schema": SCHEMA, "event": event, "wave": wave, "domains": [_domain(move) for move in moves]})


def _domain(move: Moved) -> dict[str, Any]:
    outlook, report = move.outlook(), move.report() if move.result is not None else None
    return {
        "name": move.facts.name,
        "uuid": move.facts.uuid,
        "mode": outlook.mode.value if outlook.mode else None,
        "from": _side(outlook.source),
        "to": _side(report.target if report else outlook.target),
        "result": move.result.value if move.result else None,
        "pause_ms": report.pause_ms if report else None,
        "findings": [{"code": one.code, "message": one.message} for one in (report or outlook).findings],
    }


def _side(side: Side | None) -> dict[str, Any] | None:
    return {"version": side.version, "pid": side.pid} if side else None
