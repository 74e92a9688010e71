"""Metrics of the running domains in Prometheus' text format, for node_exporter's textfile collector."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from virtcpr.model import Action, AutoDomain, AutoReport, ExitCode, Result

ABOUT = {
    "virtcpr_last_run_timestamp_seconds": "When virtcpr last looked at the domains.",
    "virtcpr_last_exit_code": "The exit code of that run.",
    "virtcpr_domains": "Running domains by result.",
    "virtcpr_outdated_domains": "Running domains that still run an outdated QEMU.",
    "virtcpr_pause_seconds": "How long the guest was paused when it was last moved.",
    "virtcpr_domain_info": "The QEMU that each running domain runs in.",
    "virtcpr_moves_total": "Moves that were tried, by result, since the history began.",
    "virtcpr_unsettled_domains": "Domains whose move, save or restore was interrupted, and isn't settled.",
}
LAST_EXIT_CODE = re.compile(r"^virtcpr_last_exit_code (\d+)$", re.MULTILINE)
CODES = {int(code) for code in ExitCode}
NEWEST = (Action.UPGRADED, Action.CURRENT)


def exposition(report: AutoReport, seconds: float, moves: Mapping[Result, int], unsettled: int) -> str:
    """The whole file; ``seconds`` is the time of the run since 1970, ``moves`` counts those of the history."""
    actions = [domain.action for domain in report.domains]
    counts = {f'result="{action.value}"': actions.count(action) for action in Action if action is not Action.MOVE}
    pauses = {
        f'domain="{_escaped(d.name)}"': round(d.pause_ms / 1000, 6) for d in report.domains if d.pause_ms is not None
    }
    samples: Mapping[str, Mapping[str, float]] = {
        "virtcpr_last_run_timestamp_seconds": {"": round(seconds, 3)},
        "virtcpr_last_exit_code": {"": int(report.exit_code)},
        "virtcpr_domains": counts,
        "virtcpr_outdated_domains": {"": sum(action not in NEWEST for action in actions)},
        "virtcpr_pause_seconds": pauses,
        "virtcpr_domain_info": {_runs(domain): 1 for domain in report.domains},
        "virtcpr_moves_total": {f'result="{result.value}"': moves.get(result, 0) for result in Result},
        "virtcpr_unsettled_domains": {"": unsettled},
    }
    return "".join(line + "\n" for name, values in samples.items() for line in _metric(name, values))


def last_exit_code(exposition: str) -> int:
    """The exit code in an earlier file; 0 if it has none."""
    found = LAST_EXIT_CODE.search(exposition)
    code = int(found[1]) if found else 0
    return code if code in CODES else 0


def _runs(domain: AutoDomain) -> str:
    """The labels of a domain: its name, and the QEMU that it runs in now."""
    side = domain.target if domain.action is Action.UPGRADED else domain.source
    return f'domain="{_escaped(domain.name)}",qemu="{_escaped(side.version if side else "")}"'


def _metric(name: str, values: Mapping[str, float]) -> Iterator[str]:
    yield f"# HELP {name} {ABOUT[name]}"
    yield f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}"
    for labels, value in values.items():
        yield f"{name}{{{labels}}} {value}" if labels else f"{name} {value}"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
