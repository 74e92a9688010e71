"""Metrics of a run of `auto` in Prometheus' text format, for node_exporter's textfile collector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from virtcpr.model import Action, AutoReport

ABOUT = {
    "virtcpr_last_run_timestamp_seconds": "When `virtcpr auto` last looked at the domains.",
    "virtcpr_last_exit_code": "Its exit code.",
    "virtcpr_domains": "Running domains by result.",
    "virtcpr_outdated_domains": "Running domains that still run an outdated QEMU.",
    "virtcpr_pause_milliseconds": "How long the guest was paused when it was moved.",
}
NEWEST = (Action.UPGRADED, Action.CURRENT)


def exposition(report: AutoReport, seconds: float) -> str:
    """The whole file; ``seconds`` is the time of the run since 1970."""
    actions = [domain.action for domain in report.domains]
    counts = {f'result="{action.value}"': actions.count(action) for action in Action if action is not Action.MOVE}
    pauses = {f'domain="{_escaped(d.name)}"': d.pause_ms for d in report.domains if d.pause_ms is not None}
    samples: Mapping[str, Mapping[str, float]] = {
        "virtcpr_last_run_timestamp_seconds": {"": round(seconds, 3)},
        "virtcpr_last_exit_code": {"": int(report.exit_code)},
        "virtcpr_domains": counts,
        "virtcpr_outdated_domains": {"": sum(action not in NEWEST for action in actions)},
        "virtcpr_pause_milliseconds": pauses,
    }
    return "".join(line + "\n" for name, values in samples.items() for line in _metric(name, values))


def _metric(name: str, values: Mapping[str, float]) -> Iterator[str]:
    yield f"# HELP {name} {ABOUT[name]}"
    yield f"# TYPE {name} gauge"
    for labels, value in values.items():
        yield f"{name}{{{labels}}} {value}" if labels else f"{name} {value}"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
