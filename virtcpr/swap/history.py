"""What was moved when: one JSON line a domain, kept over a host's reboot."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from virtcpr.errors import HostError
from virtcpr.host.files import append_durably
from virtcpr.model import DomainReport, Mode, Result

log = logging.getLogger(__name__)
PATH = Path("/var/lib/virtcpr/history.jsonl")


def pauses(mode: Mode) -> dict[str, list[float]]:
    """UUID of a domain → the pauses of its upgrades in this mode, in milliseconds, the newest last.

    Lines that can't be understood are skipped: a history is never a reason to fail.
    """
    found: dict[str, list[float]] = {}
    try:
        lines = PATH.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            if entry["result"] == Result.UPGRADED.value and entry.get("mode", Mode.TRANSFER.value) == mode.value:
                found.setdefault(str(entry["uuid"]), []).append(float(entry["pause_ms"]))
    return found


def append(report: DomainReport) -> None:
    """Append one line, durably.  A history that can't be written is logged, never a reason to fail."""
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "name": report.name,
        "uuid": report.uuid,
        "result": report.result.value,
        "mode": report.mode.value if report.mode else None,
        "from": report.source.version if report.source else None,
        "to": report.target.version if report.target else None,
        "pause_ms": report.pause_ms,
        "phases": {phase.name: phase.ms for phase in report.phases},
    }
    try:
        append_durably(PATH, json.dumps(line))
    except HostError as error:
        log.warning("%s", error)
