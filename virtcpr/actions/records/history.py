"""Past upgrades: one JSON line per upgrade of a domain, kept across a host reboot."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from virtcpr.errors import HostError
from virtcpr.host.files.atomic import append_durably
from virtcpr.host.system.paths import PATHS
from virtcpr.model import Blackout, DomainReport, Finding, HistoryEntry, Mode, Phase, Result, Severity

log = logging.getLogger(__name__)
PATH = PATHS.state / "history.jsonl"


def pauses(mode: Mode) -> dict[str, list[float]]:
    """UUID of a domain → the pauses of its upgrades in this mode, in ms, the newest last.

    A history that can't be read counts as empty.
    """
    by_domain: dict[str, list[float]] = {}
    with suppress(OSError):
        for entry in entries():
            moved = entry.result is Result.UPGRADED and (entry.mode or Mode.TRANSFER) is mode
            if moved and entry.pause_ms is not None:
                by_domain.setdefault(entry.uuid, []).append(entry.pause_ms)
    return by_domain


def blackouts(mode: Mode = Mode.TRANSFER) -> list[Blackout]:
    """The blackouts of this mode, transfer or live, the newest last.  A history that can't be read counts as empty."""
    seen: list[Blackout] = []
    with suppress(OSError):
        for entry in entries():
            ours = (entry.mode or Mode.TRANSFER) is mode
            if ours and entry.blackout is not None and entry.blackout not in seen[-1:]:  # a line for each of its guests
                seen.append(entry.blackout)
    return seen


def results() -> Counter[Result]:
    """How often a move had which result.  A history that can't be read counts as empty."""
    with suppress(OSError):
        return Counter(entry.result for entry in entries())
    return Counter()


def last_moves() -> dict[str, HistoryEntry]:
    """UUID of a domain → its last move, in whatever mode.  A history that can't be read counts as empty."""
    with suppress(OSError):
        return {entry.uuid: entry for entry in entries() if entry.result is Result.UPGRADED}
    return {}


def entries() -> Iterator[HistoryEntry]:
    """The entries, oldest first; invalid lines are skipped.  Raises OSError."""
    for line in PATH.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            yield _entry(json.loads(line))


def _entry(line: Mapping[str, Any]) -> HistoryEntry:
    pause, mode = line.get("pause_ms"), line.get("mode")
    return HistoryEntry(
        time=datetime.fromisoformat(line["time"]).isoformat(),
        name=str(line["name"]),
        uuid=str(line["uuid"]),
        result=Result(line["result"]),
        mode=None if mode is None else Mode(mode),
        source=_text(line.get("from")),
        target=_text(line.get("to")),
        pause_ms=None if pause is None else float(pause),
        phases=tuple(Phase(str(name), float(ms)) for name, ms in line.get("phases", {}).items()),
        blackout=_blackout(line.get("blackout")),
        batch=_number(line.get("batch")),
        undoes=_number(line.get("undoes")),
        why=str(line.get("why", "")),
        source_build=_text(line.get("from_build")),
        target_build=_text(line.get("to_build")),
        findings=tuple(map(_finding, line.get("findings", ()))),
    )


def _finding(value: Mapping[str, Any]) -> Finding:
    return Finding(str(value["code"]), Severity.BLOCKER, str(value["message"]), str(value["remedy"]))


def _blackout(value: Mapping[str, Any] | None) -> Blackout | None:
    return None if value is None else Blackout(int(value["guests"]), float(value["ms"]))


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def append(moved: DomainReport, batch: int | None = None, undoes: int | None = None, why: str = "") -> None:
    """Append one line, durably.  A failure is only logged."""
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "batch": batch,
        "undoes": undoes,
        "why": why,
        "name": moved.name,
        "uuid": moved.uuid,
        "result": moved.result.value,
        "mode": moved.mode.value if moved.mode else None,
        "from": moved.source.version if moved.source else None,
        "to": moved.target.version if moved.target else None,
        "from_build": moved.source.build if moved.source else None,
        "to_build": moved.target.build if moved.target else None,
        "pause_ms": moved.pause_ms,
        "phases": {phase.name: phase.ms for phase in moved.phases},
        "blackout": asdict(moved.blackout) if moved.blackout else None,
        "findings": [
            {"code": finding.code, "message": finding.message, "remedy": finding.remedy}
            for finding in moved.findings
            if finding.severity is Severity.BLOCKER
        ],
    }
    try:
        append_durably(PATH, json.dumps(line))
    except HostError as error:
        log.warning("%s", error)
