"""Write Prometheus' file: after a run of `auto`, and after every other command that changes the answer."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from pathlib import Path

from virtcpr.actions.auto.candidates import candidate, this_moment
from virtcpr.actions.records import history, unsettled
from virtcpr.actions.records.configuration import configured
from virtcpr.actions.transfer.move import probed
from virtcpr.errors import VirtcprError
from virtcpr.host.files.atomic import write_public
from virtcpr.host.libvirt.connection import Connection
from virtcpr.model import Action, AutoReport, ExitCode, Request
from virtcpr.plan import auto, metrics
from virtcpr.plan.policy import Auto, Policy

log = logging.getLogger(__name__)


def refresh(uri: str | None, exit_code: int | None) -> str | None:
    """Look at the running domains, and write the file anew if one is configured.  A failure is only logged.

    ``exit_code`` None leaves the last run's in it.  Returns why the file wasn't written, None if it was.
    """
    if os.geteuid() != 0:
        return "only root may write it"
    try:
        rules = configured()
        if not rules.prometheus:
            return "virtcpr.toml names none (results.prometheus)"
        if rules.auto is Auto.OFF:
            return 'virtcpr.toml says auto = "off"'
        code = _last_exit_code(Path(rules.prometheus)) if exit_code is None else exit_code
        write(rules, _look(uri, rules, code))
    except (VirtcprError, OSError) as error:
        log.warning("the file for Prometheus is out of date until the next run: %s", error)
        return str(error)
    return None


def _last_exit_code(path: Path) -> int:
    return metrics.last_exit_code(path.read_text(encoding="utf-8", errors="replace")) if path.exists() else 0


def _look(uri: str | None, rules: Policy, exit_code: int) -> AutoReport:
    with Connection(uri) as connection:
        moves = history.last_moves()
        candidates = [candidate(move, moves) for _, move in probed(connection, Request(every=True, uri=uri))]
    domains = auto.plan(candidates, rules, this_moment()).domains
    waiting = (replace(one, action=Action.WAITING) if one.action is Action.MOVE else one for one in domains)
    return AutoReport(tuple(waiting), ExitCode(exit_code))


def write(rules: Policy, report: AutoReport) -> None:
    """Write the report, and the pause of each domain's last move.  Raises HostError."""
    pauses = {uuid: entry.pause_ms for uuid, entry in history.last_moves().items()}
    domains = (
        one if one.pause_ms is not None else replace(one, pause_ms=pauses.get(one.uuid)) for one in report.domains
    )
    report = replace(report, domains=tuple(domains))
    text = metrics.exposition(report, time.time(), history.results(), len(unsettled.uuids()))
    write_public(Path(rules.prometheus), text)
