"""The page of ``report --html``: hosts, their builds and domains, and how moves went.  It needs nothing but itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from virtcpr.cli.output.cells import NOTHING
from virtcpr.cli.output.page.plot import Mark, Plot, scatter
from virtcpr.cli.output.text import count, local_time, milliseconds, size, visible_lines

LAST = 30  # moves in the table; the plots show all
Document = Mapping[str, Any]


def page(hosts: Sequence[Document]) -> str:
    """These reports as HTML.  Each is the JSON object of ``report`` (schema-1.json)."""
    environment = Environment(
        loader=PackageLoader("virtcpr.cli.output", "page"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ms": lambda ms: NOTHING if ms is None else milliseconds(ms),
        "time": local_time,
        "size": size,
        "version": lambda text: text.partition(" (")[0] if text else NOTHING,
        "age": _age,
    }
    environment.globals |= {"count": count, "number": _number, "pauses": pauses, "blackouts": blackouts, "LAST": LAST}
    return environment.get_template("page.html.j2").render(hosts=hosts)


def pauses(host: Document) -> Plot | None:
    """The pause of every guest that was moved."""
    moved = (entry for entry in host["entries"] if entry["result"] == "upgraded" and entry["pause_ms"] is not None)
    return scatter([Mark(entry["time"], entry["pause_ms"], entry["mode"] or "", entry["name"]) for entry in moved])


def blackouts(host: Document) -> Plot | None:
    """Every blackout: the history has it once for each of its guests."""
    seen = {}
    for entry in host["entries"]:
        if blackout := entry["blackout"]:
            guests = count(blackout["guests"], "guest")
            seen[entry["batch"], blackout["ms"]] = Mark(entry["time"], blackout["ms"], entry["mode"] or "", guests)
    return scatter(list(seen.values()))


def _shown(value: object) -> object:
    """Names come from outside; what is Markup was made here."""
    return " ".join(visible_lines(value)) if type(value) is str else value


def _number(host: Document) -> Mapping[str, int]:
    """How many domains run, are outdated, can't be moved now; how many were moved, and how many weren't."""
    running = [domain for domain in host["domains"] if domain["running"]]
    outdated = [domain for domain in running if domain["outdated"]]
    results = Counter(entry["result"] for entry in host["entries"])
    return {
        "running": len(running),
        "outdated": len(outdated),
        "unready": sum(domain["ready"] is None for domain in outdated),
        "moved": results["upgraded"],
        "failed": results.total() - results["upgraded"],
    }


def _age(since: str | None, now: str) -> str:
    if since is None:
        return NOTHING
    return count((datetime.fromisoformat(now) - datetime.fromisoformat(since)).days, "day")
