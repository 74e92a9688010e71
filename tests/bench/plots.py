"""The pictures of docs/performance.md: small, the same for the same figures, readable on white and on black."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from tests.bench.page import Results, number
from tests.bench.traces import GUEST, of_guest, split, stopped

OURS, THEIRS, GREY = "#2f81f7", "#d9822b", "#767676"
COUNTS = (1, 8, 24, 60)
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "virtcpr",
    "font.family": "sans-serif",
    "font.size": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.transparent": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), GREY),
}


def pause(results: Results) -> Any:
    """Median and p99 by number of guests, beside bare QEMU's median."""
    figure, panels = plt.subplots(1, 2, figsize=(7, 2.6), sharey=True)
    for axes, load in zip(panels, ("idle", "busy"), strict=True):
        for place, count in enumerate(COUNTS):
            row = results.row(f"{load}-{count}", "pause-bare")
            if row is None:
                continue
            low, high = row["value"], max(row["measured"])
            axes.plot([place, place], [low, high], color=OURS, linewidth=1.5, alpha=0.6)
            axes.plot(place, low, "o", color=OURS, label="virtcpr: median, up to the longest" if not place else None)
            axes.plot(place, row["against_median"], "_", color=THEIRS, markersize=14, markeredgewidth=2.5,
                      label="bare QEMU: median" if not place else None)  # fmt: skip
        axes.set_xticks(range(len(COUNTS)), [str(count) for count in COUNTS])
        axes.set_xlabel(f"guests, {'idle' if load == 'idle' else 'a quarter of them busy'}")
    panels[0].set_yscale("log")
    panels[0].yaxis.set_major_formatter("{x:g}")
    panels[0].yaxis.set_minor_formatter("")
    panels[0].set_ylabel("pause by QEMU, ms")
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def blackout(results: Results) -> Any:
    """By number of guests, beside a restart of the daemon."""
    figure, panels = plt.subplots(1, 2, figsize=(7, 2.6), sharey=True)
    for axes, load in zip(panels, ("idle", "busy"), strict=True):
        for key, color, label in (("blackout", OURS, "virtcpr"), ("restart", THEIRS, "a restart of libvirtd")):
            found = {count: results.value(f"{load}-{count}", key) for count in COUNTS}
            there = {count: value / 1000 for count, value in found.items() if value is not None}
            axes.plot(list(there), list(there.values()), "o-", color=color, label=label)
        limit = {count: results.value(f"{load}-{count}", "restart") for count in COUNTS}
        bound = {count: (value + 60 * count) / 1000 * (2 if load == "busy" else 1)
                 for count, value in limit.items() if value is not None}  # fmt: skip
        axes.plot(list(bound), list(bound.values()), ":", color=GREY, label="the bound")
        axes.set_xticks(COUNTS)
        axes.set_xlabel(f"guests, {'idle' if load == 'idle' else 'a quarter of them busy'}")
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("blackout, s")
    panels[0].legend(frameon=False, fontsize=8)
    return figure


CROWDED = ("MIGRATION_PASS", "MIGRATION device", "MIGRATION active")  # events that stand close to others
SIZES = (
    ("ram", "ram-4096", "4 GiB of RAM instead of 256 MiB"),
    ("ram", "ram-8192", "8 GiB of RAM"),
    ("vcpus", "vcpus-8", "8 vCPUs instead of 1"),
    ("vcpus", "vcpus-64", "64 vCPUs"),
    ("devices", "devices-20", "20 disks instead of 4"),
    ("devices", "devices-60", "60 disks"),
    ("pages", "hugepages", "hugepages instead of memfd"),
)


def sizes(results: Results) -> Any:
    """How much longer the pause of a larger guest is."""
    found = [(name, results.value(part, key, "ratio")) for part, key, name in SIZES]
    bars(plt, {name: value for name, value in found if value is not None})
    plt.axvline(1, color=GREY, linewidth=0.8)
    plt.xlabel("pause, as a multiple")
    return plt.gcf()


def ways(results: Results) -> Any:
    """What one could do instead, with 2 GiB written; the scale is logarithmic."""
    found = {
        "virtcpr: pause": results.value("copies", "managedsave", "against_median"),
        "local migration: pause": results.value("copies", "migration-pause"),
        "local migration: all of it": results.value("copies", "migration"),
        "managedsave and start": results.value("copies", "managedsave"),
    }
    bars(plt, {name: value for name, value in found.items() if value is not None})
    plt.xscale("log")
    plt.xlabel("ms")
    return plt.gcf()


def bars(plot: Any, found: Mapping[str, float]) -> None:
    plot.figure(figsize=(7, 0.5 + 0.32 * len(found)))
    colors = [THEIRS if "migration" in name or "managedsave" in name else OURS for name in found]
    drawn = plot.barh(range(len(found)), list(found.values()), color=colors, height=0.6)
    plot.bar_label(drawn, [f" {number(value)}" for value in found.values()], color=GREY)
    plot.yticks(range(len(found)), list(found))
    plot.gca().invert_yaxis()
    plot.margins(x=0.12)


def trace(results: Results) -> Any:
    """What happens while a single guest doesn't run, and around that."""
    spans = results.spans("idle-1")
    (stop,) = stopped(spans)
    lanes = of_guest(spans, split(str(stop["lane"]))[0])
    begin, length = float(stop["begin"]), float(stop["end"]) - float(stop["begin"])
    names = (GUEST, "steps", "old QEMU: QMP", "new QEMU: QMP", "old QEMU: events", "new QEMU: events")
    figure, axes = plt.subplots(figsize=(7, 2.6))
    for place, lane in enumerate(names):
        for number_, span in enumerate(_near(lanes.get(lane, []), begin, length)):
            start, end = ((float(span[side]) - begin) * 1000 for side in ("begin", "end"))
            color = THEIRS if lane == GUEST else OURS
            axes.barh(place, max(end - start, length * 4), left=start, height=0.5, color=color, alpha=0.7)
            axes.text(max(start, -290 * length), place - 0.3 - 0.22 * (number_ % 2), str(span["name"]), fontsize=5.5)
    axes.set_yticks(range(len(names)), ["doesn't run", *names[1:]])
    axes.set_xlim(-300 * length, 1500 * length)
    axes.invert_yaxis()
    axes.set_xlabel("ms since the guest stopped")
    return figure


def _near(spans: Any, begin: float, length: float) -> list[Any]:
    """Those that end after a bit before the pause, and begin before a bit after it."""
    early, late = begin - 0.3 * length, begin + 1.5 * length
    near = (span for span in spans if span["end"] >= early and span["begin"] <= late and span["name"] not in CROWDED)
    return sorted(near, key=lambda span: span["begin"])


PLOTS: Mapping[str, tuple[Callable[[Results], Any], str]] = {
    "pause": (pause, "Pause by number of guests, beside bare QEMU"),
    "blackout": (blackout, "Blackout by number of guests, beside a restart of libvirt's daemon"),
    "sizes": (sizes, "How much longer the pause of a larger guest is"),
    "ways": (ways, "The pause beside managedsave and a local migration"),
    "trace": (trace, "What happens while a single guest doesn't run"),
}


def draw(results: Results, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    mpl.use("svg")
    with mpl.rc_context(STYLE):
        for name, (plot, _) in PLOTS.items():
            figure = plot(results)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
            plt.close(figure)
