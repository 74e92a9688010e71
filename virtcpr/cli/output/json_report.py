"""Reports as JSON, described by ``schema-1.json``.  Members are added, never changed."""

from __future__ import annotations

import json
from functools import singledispatch
from typing import Any

from virtcpr.cli.failure import Failure
from virtcpr.model import (
    AutoDomain,
    AutoReport,
    Blackouts,
    BuildInUse,
    BuildsReport,
    CertifiedDomain,
    CertifyReport,
    CheckedDomain,
    CheckReport,
    DomainReport,
    DomainRow,
    Finding,
    HistoryEntry,
    HistoryReport,
    HookReport,
    HostReport,
    KeptBuild,
    KeptDomain,
    ListReport,
    Mode,
    Outlook,
    Phase,
    PlannedStep,
    PlanReport,
    PreparedDomain,
    PrepareReport,
    Recovered,
    RecoverReport,
    Rehearsal,
    Report,
    RestoreReport,
    SaveReport,
    Side,
    UpgradeReport,
)

SCHEMA = 1


def dump(outcome: Report) -> str:
    """A report as JSON, independent of ``--output``."""
    return _dump(document(outcome))


def failure(command: str | None, failed: Failure) -> str:
    """The JSON object of a command that failed as a whole."""
    blackout: dict[str, Any] = {"blackout_ms": None} if command in ("upgrade", "undo", "auto", "restore") else {}
    error = {"code": failed.code, "message": failed.message, "hint": failed.hint}
    return _dump({**_envelope(command, failed.exit_code, []), **blackout, "error": error})


@singledispatch
def document(outcome: object) -> dict[str, Any]:
    """A report as the JSON object of its command."""
    raise TypeError(f"no JSON for {type(outcome).__name__}")


@document.register
def _(outcome: ListReport) -> dict[str, Any]:
    return _envelope("list", outcome.exit_code, [_row(row) for row in outcome.domains])


@document.register
def _(outcome: CheckReport) -> dict[str, Any]:
    return _envelope("check", outcome.exit_code, [_checked(domain) for domain in outcome.domains])


@document.register
def _(outcome: RecoverReport) -> dict[str, Any]:
    domains = [_recovered(domain) for domain in outcome.domains]
    return {**_envelope("recover", outcome.exit_code, domains), "dry_run": outcome.dry_run}


@document.register
def _(outcome: HookReport) -> dict[str, Any]:
    hooks = [{"name": hook.name, "path": hook.path, "state": hook.state.value} for hook in outcome.hooks]
    return {**_envelope("hooks", outcome.exit_code, []), "hooks": hooks}


@document.register
def _(outcome: PlanReport) -> dict[str, Any]:
    domains = [_outlook(domain) for domain in outcome.domains]
    return {
        **_envelope("plan", outcome.exit_code, domains),
        "forecast_blackouts": _blackouts(outcome.blackouts),
        **_notes(outcome.notes),
    }


@document.register
def _(outcome: CertifyReport) -> dict[str, Any]:
    domains = [_certified(domain) for domain in outcome.domains]
    return {
        **_envelope("certify", outcome.exit_code, domains),
        "packages": list(outcome.packages),
        **_notes(outcome.notes),
    }


@document.register
def _(outcome: PrepareReport) -> dict[str, Any]:
    domains = [_prepared(domain) for domain in outcome.domains]
    extra: dict[str, Any] = {"dry_run": outcome.dry_run}
    if outcome.document is not None:
        extra["xml"] = outcome.document
    if outcome.notes:
        extra["notes"] = list(outcome.notes)
    if outcome.moves is not None:
        extra["moves"] = document(outcome.moves)
    return {**_envelope("prepare", outcome.exit_code, domains), **extra}


@document.register
def _(outcome: UpgradeReport) -> dict[str, Any]:
    domains = [_domain(domain) for domain in outcome.domains]
    return {
        **_envelope("undo" if outcome.undo else "upgrade", outcome.exit_code, domains),
        "blackout_ms": _ms(outcome.blackout_ms),
        "blackouts": _blackouts(outcome.blackouts),
        **_notes(outcome.notes),
    }


@document.register
def _(outcome: AutoReport) -> dict[str, Any]:
    return {
        **_envelope("auto", outcome.exit_code, [_automatic(domain) for domain in outcome.domains]),
        "blackout_ms": _ms(outcome.blackout_ms),
        "dry_run": outcome.dry_run,
        **_notes(outcome.notes),
    }


@document.register
def _(outcome: HistoryReport) -> dict[str, Any]:
    return {**_envelope("history", outcome.exit_code, []), "entries": [_entry(entry) for entry in outcome.entries]}


@document.register
def _(outcome: BuildsReport) -> dict[str, Any]:
    return {
        **_envelope("builds", outcome.exit_code, []),
        "builds": [_kept_build(one) for one in outcome.builds],
        **_notes(outcome.notes),
    }


@document.register
def _(outcome: HostReport) -> dict[str, Any]:
    return {
        **_envelope("report", outcome.exit_code, [_row(row) for row in outcome.domains]),
        "host": outcome.host,
        "time": outcome.time,
        "since": outcome.since,
        "unsettled": list(outcome.unsettled),
        "builds": [_build_in_use(one) for one in outcome.builds],
        "kept": [_kept_build(one) for one in outcome.kept],
        "entries": [_entry(entry) for entry in outcome.entries],
    }


@document.register
def _(outcome: SaveReport) -> dict[str, Any]:
    domains = [_kept(domain) for domain in outcome.domains]
    return {**_envelope("save", outcome.exit_code, domains), **_notes(outcome.notes)}


@document.register
def _(outcome: RestoreReport) -> dict[str, Any]:
    domains = [_kept(domain) for domain in outcome.domains]
    return {
        **_envelope("restore", outcome.exit_code, domains),
        "blackout_ms": _ms(outcome.blackout_ms),
        **_notes(outcome.notes),
    }


def _blackouts(several: Blackouts | None) -> dict[str, Any] | None:
    return {"times": several.times, "longest_ms": _ms(several.longest_ms)} if several else None


def _envelope(command: str | None, exit_code: int, domains: list[dict[str, Any]]) -> dict[str, Any]:
    return {"schema": SCHEMA, "command": command, "exit_code": int(exit_code), "domains": domains}


def _notes(notes: tuple[str, ...]) -> dict[str, Any]:
    return {"notes": list(notes)} if notes else {}


def _domain(domain: DomainReport) -> dict[str, Any]:
    return {
        "name": domain.name,
        "uuid": domain.uuid,
        "result": domain.result.value,
        "mode": domain.mode.value if domain.mode else None,
        "from": _side(domain.source),
        "to": _side(domain.target),
        "pause_ms": _ms(domain.pause_ms),
        "phases": [_phase(phase) for phase in domain.phases],
        "findings": [_finding(finding) for finding in domain.findings],
    }


def _automatic(domain: AutoDomain) -> dict[str, Any]:
    return {
        "name": domain.name,
        "uuid": domain.uuid,
        "action": domain.action.value,
        "reason": domain.reason,
        "mode": domain.mode.value if domain.mode else None,
        "from": _side(domain.source),
        "to": _side(domain.target),
        "pause_ms": _ms(domain.pause_ms),
        "phases": [_phase(phase) for phase in domain.phases],
        "findings": [_finding(finding) for finding in domain.findings],
    }


def _entry(entry: HistoryEntry) -> dict[str, Any]:
    return {
        "time": entry.time,
        "batch": entry.batch,
        "undoes": entry.undoes,
        "why": entry.why or None,
        "name": entry.name,
        "uuid": entry.uuid,
        "result": entry.result.value,
        "mode": entry.mode.value if entry.mode else None,
        "from": entry.source,
        "to": entry.target,
        "pause_ms": _ms(entry.pause_ms),
        "phases": [_phase(phase) for phase in entry.phases],
        "blackout": {"guests": entry.blackout.guests, "ms": _ms(entry.blackout.ms)} if entry.blackout else None,
        "findings": [_finding(finding) for finding in entry.findings],
    }


def _build_in_use(one: BuildInUse) -> dict[str, Any]:
    return {
        "version": one.version,
        "installed": one.installed,
        "outdated": one.outdated,
        "domains": list(one.domains),
        "released": one.released,
        "fixes": None if one.fixes is None else list(one.fixes),
    }


def _kept_build(one: KeptBuild) -> dict[str, Any]:
    return {
        "build": one.build,
        "version": one.version,
        "kept_at": one.kept_at,
        "program": one.program,
        "size": one.size,
        "runs": one.runs,
    }


def _kept(domain: KeptDomain) -> dict[str, Any]:
    return {
        "name": domain.name or None,
        "uuid": domain.uuid,
        "result": domain.result.value,
        "qemu": domain.qemu,
        "size": domain.size,
        "in_place": domain.in_place,
        "saved_at": domain.saved_at,
        "phases": [_phase(phase) for phase in domain.phases],
        "findings": [_finding(finding) for finding in domain.findings],
    }


def _recovered(domain: Recovered) -> dict[str, Any]:
    return {
        "name": domain.name or None,
        "uuid": domain.uuid,
        "state": domain.state,
        "old": domain.old,
        "new": domain.new,
        "settled": domain.settled.value,
        "text": domain.text,
    }


def _checked(domain: CheckedDomain) -> dict[str, Any]:
    return {
        "name": domain.name,
        "uuid": domain.uuid or None,
        "state": domain.state or None,
        "running": domain.running,
        "installed": domain.installed,
        "modes": {mode.value: "ready" if mode in domain.ready else "blocked" for mode in Mode},
        "findings": [_finding(finding) for finding in domain.findings],
    }


def _prepared(domain: PreparedDomain) -> dict[str, Any]:
    return {
        "name": domain.name,
        "uuid": domain.uuid or None,
        "result": domain.result.value,
        "changes": list(domain.changes),
        "kept": list(domain.kept),
        "diff": domain.diff,
        "backup": domain.backup,
        "findings": [_finding(finding) for finding in domain.findings],
    }


def _outlook(domain: Outlook) -> dict[str, Any]:
    return {
        "name": domain.name,
        "uuid": domain.uuid,
        "action": domain.verdict.value if domain.verdict else "move",
        "mode": domain.mode.value if domain.mode else None,
        "from": _side(domain.source),
        "to": _side(domain.target),
        "emulator": domain.emulator,
        "steps": [_step(step) for step in domain.steps],
        "carried": list(domain.carried),
        "replayed": list(domain.replayed),
        "forecast_pause_ms": _ms(domain.forecast_ms),
        "rehearsal": _rehearsal(domain.rehearsal),
        "findings": [_finding(finding) for finding in domain.findings],
    }


def _certified(domain: CertifiedDomain) -> dict[str, Any]:
    return {
        "name": domain.name,
        "uuid": domain.uuid,
        "result": domain.result.value,
        "mode": domain.mode.value if domain.mode else None,
        "defined": domain.defined,
        "running": domain.running,
        "candidate": domain.candidate,
        "shape": domain.shape,
        "there": _rehearsal(domain.there),
        "back": _rehearsal(domain.back),
        "findings": [_finding(finding) for finding in domain.findings],
    }


def _rehearsal(result: Rehearsal | None) -> dict[str, Any] | None:
    return {"verdict": result.trial.value, "words": result.words} if result else None


def _step(step: PlannedStep) -> dict[str, Any]:
    return {"name": step.name, "describe": step.describe, "side": step.side, "undo": step.undo}


def _row(row: DomainRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "uuid": row.uuid,
        "id": row.id,
        "state": row.state,
        "running": row.running,
        "installed": row.installed,
        "outdated": row.outdated,
        "prepared": row.prepared,
        "ready": row.ready.value if row.ready else None,
        "findings": [_finding(finding) for finding in row.findings],
    }


def _side(side: Side | None) -> dict[str, Any] | None:
    return {"version": side.version, "pid": side.pid} if side else None


def _phase(phase: Phase) -> dict[str, Any]:
    return {"name": phase.name, "ms": _ms(phase.ms)}


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "message": finding.message,
        "remedy": finding.remedy,
        "modes": [mode.value for mode in finding.modes],
        "source": finding.source,
    }


def _ms(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 3)


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2)
