"""The pure parts of the bench: statistics, bounds, the trace, and the page that is made of the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.bench import host_page, results, why
from tests.bench.figures import HOST, Item, NotRun, Row, Steps, Trace, p99
from tests.bench.page import Results, page
from tests.bench.traces import of_guest, perfetto, split

ABOUT = {"processors": 2, "memory_gib": 24, "where": "a container", "kernel": "6.1", "qemu": "10", "libvirt": "11",
         "python": "3.13", "virtcpr": "1", "accelerator": "TCG"}  # fmt: skip
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


def test_the_longest_pause_of_many_is_shown_in_its_two_parts(tmp_path: Path) -> None:
    """It may be another guest that takes longest in one of them."""
    times = {"short": (10.0, 10.02, 10.03), "long": (11.0, 11.01, 11.09), "moving": (12.0, 12.05, 12.06)}
    spans: list[dict[str, float | str]] = [
        {"lane": f"{guest} ({side} QEMU): events", "name": name, "begin": at, "end": at}
        for guest, (stopped, moved, resumed) in times.items()
        for side, name, at in (
            ("old", "STOP", stopped),
            ("old", "MIGRATION completed", moved - 0.001),
            ("new", "MIGRATION completed", moved),
            ("new", "RESUME", resumed),
        )
    ]
    file = tmp_path / "bench.json"
    results.write(file, "busy-8", [Trace("busy-8", spans)], ABOUT)
    text = page(Results(results.read(file)), {}, [])
    assert "| guests: 8 (a quarter busy) | 20.0 | 10.0 |\n" in text
    assert "| guests: 8 (a quarter busy): the longest pause | 10.0 | 80.0 |\n" in text


def written(file: Path) -> Results:
    items: list[Item] = [
        Row("pause", "pause of one", [20, 30, 25], [10], bound=1.5),
        Row("quiet", "quiet", [700.0]),
        Steps("steps", "steps", {"spawn": 3.0}),
        NotRun("hugepages", "there are none"),
        Trace("idle-8", SPANS),
    ]
    results.write(file, "idle-8", items, ABOUT)
    results.write(file, "commands", [Row("help", "--help", [0.2], bound=0.25, unit="s")], ABOUT)
    return Results(results.read(file))


def test_parts_are_added_to_the_file(tmp_path: Path) -> None:
    found = written(tmp_path / "bench.json")
    assert found.value("idle-8", "pause", "ratio") == 2.5
    assert found.value("idle-8", "gone") is None
    assert found.steps("idle-8") == {"spawn": 3.0}
    assert len(found.spans("idle-8")) == len(SPANS)
    assert (tmp_path / "bench.idle-8.trace.json").exists()
    with pytest.raises(ValueError, match="another machine"):
        results.write(tmp_path / "bench.json", "commands", [], {**ABOUT, "processors": 4})


def test_the_hosts_ratios_stand_beside_the_labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is another machine: the lab's page has none of its figures."""
    rows = [Row("pause", "pause of one", [50, 40], [30]), Row("outside", "outside", [9], [3])]
    results.write(tmp_path / "bench.json", HOST, rows, {**ABOUT, "processors": 1, "accelerator": "KVM"})
    results.write(tmp_path / "bench.json", "single", [Row("pause", "pause of one", [5], [2])], ABOUT)
    found = Results(results.read(tmp_path / "bench.json"))
    text = host_page.page(found)
    assert "| pause of one | 50.0 40.0 | 30.0 | 1.50 | 2.50 |\n" in text
    assert "| outside | 9.00 | 3.00 | 3.00 | not run |\n" in text
    assert "with 1 processors" in text
    assert "because" not in text
    monkeypatch.setitem(why.ON_HOST, found.data["parts"][HOST]["commit"], "because")
    assert "\nbecause.\n" in host_page.page(found)
    assert "| outside |" not in page(found, {}, [])


def test_the_page_names_what_is_over_and_what_was_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(why.WHY, ("idle", "pause"), "because")
    found = written(tmp_path / "bench.json")
    for part, commit in (("idle-8", ""), ("commands", "1234567")):
        found.data["parts"][part]["commit"] = commit
    text = page(found, {"pause": "A picture"}, ["idle-8", "ram"])
    assert "| pause of one (idle) | 25.0 : 10.0 ms | 2.50 | at most 1.5 | **no** |" in text
    assert "- **pause of one (idle)**: 2.50 instead of 1.5\n\nbecause.\n" in text
    assert "| --help | 0.20 s |  | at most 0.25 | yes |" in text
    assert "| quiet (idle) | 700 ms |  |" in text
    assert "by parts of the bench: an older one: `idle-8`; 1234567: `commands`." in text
    assert "- the bench's part `ram`: it isn't in this run.\n" in text
    assert "- hugepages: there are none.\n" in text
    assert "![A picture](performance/pause.svg)" in text
