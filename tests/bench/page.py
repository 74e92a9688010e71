"""docs/performance.md from the results.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from textwrap import fill
from typing import Any

from tests.bench.figures import HOST, p99
from tests.bench.traces import shares
from tests.bench.why import MISSING, NOT_RUN, WHY

HEAD = """\
# Performance: pause, blackout and what they cost

<!-- Generated: `make bench` measures, `make performance` writes this page and its pictures from the figures. -->

How long a guest doesn't run (the *pause*), and how long libvirt's daemon doesn't answer (the *blackout*), measured
against what else could be done: a restart of the daemon, bare QEMU, `virsh managedsave`, an ordinary migration.

{machine}

- *By QEMU*: from old QEMU's event STOP to new QEMU's RESUME. *From outside*: the longest time without a packet from a
  guest that sends one every 2 ms (busy guests: every 5 ms).
- *Idle* guests run their firmware, which waits. *Busy* ones write and verify their RAM as fast as they can: each keeps
  a processor busy. A quarter of the guests is busy; with 60 guests that is 15 for two processors.
- *Bare QEMU* is a plain script with the same command lines: it starts new QEMU, says `migrate` and `migrate-incoming`,
  and kills old QEMU. It checks nothing, can't roll back, and libvirt isn't there.
- p50 is the median, p99 the 99th percentile; of fewer than a hundred figures it is the greatest.
- Before each move the daemon was restarted in the same way, for comparison. If libvirtd hung in its own shutdown, as
  version 11.3 does now and then, that restart was measured again, but virtcpr's blackout was not.
"""

STEPS = """\
Medians, ms, by the number of guests. Up to `place`, libvirt's daemon is there, and as many guests are worked on at once
as there are processors. From `connect` on it is away: from `incoming` to `commit` one guest after the other.

"""

PARTS = """\
Of one traced move each: the medians of its guests, and the guest that pauses longest. In the first part only QEMU
works: it stops the guest, writes the state of its devices, and loads it in new QEMU. In the second part virtcpr makes
sure that both sides are complete before it lets new QEMU run. A pause grows with the number of vCPUs and disks, and
nearly all of that is QEMU's.

"""

IN_MANY = ("wall", "restart", "pause", "outside", "cpu")  # rows that the table of many guests shows

AGAIN = """\
## Measure it yourself

    make bench          # as root: all parts, in the lab and on the emulated host; hours
    make performance    # these pages and pictures, from what `make bench` has written to build/bench.json

`python -m tests.bench PART… --json FILE` runs some of the parts. Beside FILE it writes traces (`*.trace.json`) that
[Perfetto](https://ui.perfetto.dev) shows: each step, each QMP command and each event of QEMU.
"""


@dataclass(frozen=True)
class Results:
    """The file of tests/bench/results.py."""

    data: Mapping[str, Any]

    @property
    def parts(self) -> Sequence[str]:
        """Those of the lab."""
        return [part for part in self.data["parts"] if part != HOST]

    def row(self, part: str, key: str) -> Mapping[str, Any] | None:
        rows = self.data["parts"].get(part, {}).get("rows", [])
        found: Mapping[str, Any] | None = next((row for row in rows if row["key"] == key), None)
        return found

    def value(self, part: str, key: str, of: str = "value") -> float | None:
        row = self.row(part, key)
        return None if row is None else row[of]

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for part in self.parts:
            for row in self.data["parts"][part]["rows"]:
                yield part, row

    def steps(self, part: str) -> Mapping[str, float]:
        found = self.data["parts"].get(part, {}).get("steps", [])
        steps: Mapping[str, float] = found[0]["ms"] if found else {}
        return steps

    def spans(self, part: str) -> Sequence[Mapping[str, Any]]:
        spans: Sequence[Mapping[str, Any]] = self.data["parts"].get(part, {}).get("spans", [])
        return spans


def page(results: Results, plots: Mapping[str, str], wanted: Iterable[str]) -> str:
    """``plots``: what each picture shows, by its name; ``wanted``: the parts that a whole run has."""

    def pictures(*names: str) -> str:
        return "".join(f"\n![{plots[name]}](performance/{name}.svg)\n" for name in names if name in plots)

    sections = [
        HEAD.replace("{machine}", machine(results.data["machine"]) + "\n\n" + commits(results)),
        "## Every figure that has a bound\n\n" + bounded(results) + pictures("ways"),
        "## One guest and many\n\n" + many(results) + pictures("pause", "blackout"),
        "## The steps of a move\n\n" + STEPS + steps(results),
        "## The two parts of a pause\n\n" + PARTS + halves(results) + pictures("trace", "sizes"),
        "## Everything else that was measured\n\n" + unbounded(results),
        "## Over its bound, and why\n\n" + over(results),
        "## Not run\n\n" + not_run(results, wanted),
        AGAIN,
    ]
    return "\n".join(sections)


def machine(about: Mapping[str, Any]) -> str:
    text = (
        "**These are figures of one small machine, whose guests run under TCG.** It has "
        f"{about['processors']} processors and {about['memory_gib']} GiB of memory. All ran in {about['where']}, "
        f"with Linux {about['kernel']}, QEMU {about['qemu']}, libvirt {about['libvirt']}, Python {about['python']}, "
        f"virtcpr {about['virtcpr']}. Real hardware was not measured. Compare the ratios, not the milliseconds: they "
        "are ratios of medians, and both sides took turns. [Another page](performance-host.md) has some ratios of an "
        "emulated host, whose guests run under KVM."
    )
    return fill(text, 120, break_on_hyphens=False)


def commits(results: Results) -> str:
    """Which parts are of which commit: a part that was measured again is newer than the others."""
    parts: dict[str, list[str]] = {}
    for name in results.parts:
        parts.setdefault(results.data["parts"][name].get("commit") or "an older one", []).append(f"`{name}`")
    listed = "; ".join(f"{commit}: {', '.join(names)}" for commit, names in parts.items())
    return fill(f"Measured at these commits, by parts of the bench: {listed}.", 120, break_on_hyphens=False)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def number(value: float | None) -> str:
    """Three digits are enough."""
    if value is None:
        return "not run"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def figure(row: Mapping[str, Any]) -> str:
    """The ratio, or the figure itself if there is nothing that it is measured against."""
    return number(row["ratio"]) if row["ratio"] is not None else f"{number(row['value'])} {row['unit']}"


def both(row: Mapping[str, Any]) -> str:
    against = "" if row["against_median"] is None else f" : {number(row['against_median'])}"
    return f"{number(row['value'])}{against} {row['unit']}"


def bounded(results: Results) -> str:
    rows = []
    for part, row in results.rows():
        if row["bound"] is not None:
            least = "at least" if row["at_least"] else "at most"
            verdict = "yes" if row["within"] else "**no**"
            name = f"{row['name']}{load(part)}"
            ratio = "" if row["ratio"] is None else number(row["ratio"])
            rows.append((name, both(row), ratio, f"{least} {row['bound']:g}", verdict))
    return table(("what", "figures", "ratio", "bound", "within"), rows)


def load(part: str) -> str:
    return {"idle": " (idle)", "busy": " (a quarter busy)"}.get(part.partition("-")[0], "")


def many(results: Results) -> str:
    header = ("guests", "load", "wall, s", "blackout, s", "a restart, s", "pause p50, ms", "pause p99, ms",
              "from outside p50, ms", "bare QEMU p50, ms", "CPU of virtcpr, s", "its memory, MiB")  # fmt: skip
    return table(header, [_herd(results, part) for part in results.parts if load(part)])


def _herd(results: Results, part: str) -> Sequence[str]:
    kind, _, count = part.partition("-")
    pauses = results.row(part, "pause") or {"value": None, "measured": ()}
    seconds = (results.value(part, key) for key in ("blackout", "restart"))
    return (
        count,
        kind,
        number(results.value(part, "wall")),
        *(number(None if ms is None else ms / 1000) for ms in seconds),
        number(pauses["value"]),
        number(p99(pauses["measured"]) if pauses["measured"] else None),
        number(results.value(part, "outside")),
        number(results.value(part, "pause-bare", "against_median")),
        number(results.value(part, "cpu")),
        number(results.value(part, "rss")),
    )


def steps(results: Results) -> str:
    """A row for each step, a column for each number of guests."""
    found = {part: results.steps(part) for part in results.parts if results.steps(part)}
    names = dict.fromkeys(name for each in found.values() for name in each)
    rows = [(f"`{name}`", *(f"{each[name]:.0f}" if name in each else "" for each in found.values())) for name in names]
    return table(("step", *(f"{part.partition('-')[2]}{load(part)}" for part in found)), rows)


def halves(results: Results) -> str:
    rows: list[Sequence[str]] = []
    for part in results.parts:
        found = shares(results.spans(part))
        if found:
            names = {"vcpus": "one guest with 64 vCPUs", "devices": "one guest with 60 disks"}
            name = names.get(part, f"guests: {part.partition('-')[2]}{load(part)}")
            shown = {name: tuple(median(one[side] for one in found) for side in (0, 1))}
            if len(found) > 1:
                shown[f"{name}: the longest pause"] = max(found, key=sum)
            rows += [(what, *(f"{ms:.1f}" for ms in both_parts)) for what, both_parts in shown.items()]
    return table(("what was moved", "QEMU moves the device state, ms", "virtcpr looks, and says `cont`, ms"), rows)


def unbounded(results: Results) -> str:
    rows = [
        (f"{row['name']}{load(part)}", both(row), number(row["ratio"]) if row["ratio"] is not None else "")
        for part, row in results.rows()
        if row["bound"] is None and not (load(part) and row["key"] in IN_MANY)
    ]
    return table(("what", "figures", "ratio"), rows)


def over(results: Results) -> str:
    """What is over its bound, by the reason."""
    found: dict[str, list[str]] = {}
    for part, row in results.rows():
        if row["within"] is False:
            why = WHY.get((part, row["key"])) or WHY.get((part.partition("-")[0], row["key"])) or "Not known yet"
            bound = f"{figure(row)} instead of {row['bound']:g}"
            found.setdefault(why, []).append(f"- **{row['name']}{load(part)}**: {bound}\n")
    return (
        "\n".join("".join(rows) + "\n" + fill(f"{why}.", 120) + "\n" for why, rows in found.items()) or "Nothing is.\n"
    )


def not_run(results: Results, wanted: Iterable[str]) -> str:
    missing = [
        (f"the bench's part `{part}`", MISSING.get(part, "it isn't in this run"))
        for part in wanted
        if part not in results.data["parts"]
    ]
    found = [(one["what"], one["why"]) for part in results.parts for one in results.data["parts"][part]["not_run"]]
    return "".join(f"- {what}: {why}.\n" for what, why in (*missing, *found, *NOT_RUN))
