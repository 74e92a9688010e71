"""The pure parts of the bench: statistics, bounds, the trace."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.figures import Row, p99
from tests.bench.traces import of_guest, perfetto, split

SPANS: list[dict[str, float | str]] = [
    {"lane": "web", "name": "incoming", "begin": 10.0, "end": 10.5},
    {"lane": "web (old QEMU): events", "name": "STOP", "begin": 10.1, "end": 10.1},
    {"lane": "web (new QEMU): events", "name": "RESUME", "begin": 10.4, "end": 10.4},
    {"lane": "libvirt's daemon", "name": "stop", "begin": 9.0, "end": 9.5},
]


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (72, 72), (100, 99), (200, 198)])
def test_p99_is_the_nearest_rank(count: int, expected: float) -> None:
    assert p99(list(range(count, 0, -1))) == expected


@pytest.mark.parametrize(
    ("row", "figure", "within"),
    [
        (Row("a", "", [1, 3, 2], [4, 4], bound=0.5), 0.5, True),
        (Row("a", "", [1, 3, 2], [4, 4], bound=0.7, of="p99"), 0.75, False),
        (Row("a", "", [400], [2], bound=100, at_least=True), 200, True),
        (Row("a", "", [100], [2], bound=100, at_least=True), 50, False),
        (Row("a", "", [0.3, 0.2, 0.2], bound=0.25, unit="s"), 0.2, True),
        (Row("a", "", [9], [1]), 9, True),
    ],
)
def test_a_ratio_or_else_the_figure_has_the_bound(row: Row, figure: float, within: bool) -> None:
    assert row.figure == figure
    assert row.within is within
    assert ("OVER" in str(row)) is not within


def test_a_trace_has_the_pause_and_counts_from_its_first_span() -> None:
    events: list[dict[str, Any]] = perfetto(SPANS)["traceEvents"]
    shown = {(event["name"], event["ph"], event["ts"], event.get("dur")) for event in events if event["ph"] != "M"}
    assert ("doesn't run", "X", 1_100_000, 300_000) in shown
    assert ("STOP", "i", 1_100_000, None) in shown
    assert ("stop", "X", 0, 500_000) in shown
    assert {event["args"]["name"] for event in events if event["name"] == "process_name"} == {"web", "libvirt's daemon"}


def test_lanes_are_found_by_guest() -> None:
    assert split("web (old QEMU): QMP") == ("web", "old QEMU: QMP")
    assert set(of_guest(SPANS, "web")) == {"steps", "old QEMU: events", "new QEMU: events", "guest"}
