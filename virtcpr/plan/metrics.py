"""Metrics of the running domains in Prometheus' text format, for node_exporter's textfile collector."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from virtcpr.model import Action, AutoReport, ExitCode

ABOUT = {
    "virtcpr_last_run_timestamp_seconds": "When virtcpr last looked at the domains.",
    "virtcpr_last_exit_code": "The exit code of that run.",
    "virtcpr_domains": "Running domains by result.",
    "virtcpr_outdated_domains": "Running domains that still run an outdated QEMU.",
    "virtcpr_pause_seconds": "How long the guest was paused when it was last moved.",
}
LAST_EXIT_CODE = re.compile(r"^virtcpr_last_exit_code (\d+)$", re.MULTILINE)
CODES = {int(code) for code in ExitCode}
NEWEST = (Action.UPGRADED, Action.CURRENT)


def exposition(report: AutoReport, seconds: float) -> str:
    """The whole file; ``seconds`` is the time of the run since 1970."""
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
    }
    return "".join(line + "\n" for name, values in samples.items() for line in _metric(name, values))


def last_exit_code(exposition: str) -> int:
    """The exit code in an earlier file; 0 if it has none."""
    found = LAST_EXIT_CODE.search(exposition)
    code = int(found[1]) if found else 0
    return code if code in CODES else 0


def _metric(name: str, values: Mapping[str, float]) -> Iterator[str]:
    yield f"# HELP {name} {ABOUT[name]}"
    yield f"# TYPE {name} gauge"
    for labels, value in values.items():
        yield f"{name}{{{labels}}} {value}" if labels else f"{name} {value}"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
