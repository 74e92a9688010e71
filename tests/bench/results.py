"""The results as JSON: the machine, and every part with its series, statistics, bounds and verdicts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.figures import HOST, Item, NotRun, Row, Steps, Trace
from tests.bench.traces import perfetto
from tests.lab.support.client import run
from tests.paths import ROOT
from virtcpr import __version__

SCHEMA = 1
DIGITS = 3


def machine() -> dict[str, object]:
    """What the figures depend on, in words that name no machine."""
    return _machine("a container (the lab)", "TCG")


def host() -> dict[str, object]:
    """The same of the host; commands go there."""
    return _machine("an emulated machine", "KVM")


def _machine(where: str, accelerator: str) -> dict[str, object]:
    pages = int(run("getconf", "_PHYS_PAGES").out) * int(run("getconf", "PAGE_SIZE").out)
    return {
        "processors": int(run("nproc").out),
        "memory_gib": round(pages / 2**30),
        "where": where,
        "accelerator": accelerator,
        "kernel": run("uname", "-r").out.partition("-")[0].partition("+")[0].strip(),
        "qemu": run("dpkg-query", "-Wf", "${Version}", "qemu-system-x86").out,
        "libvirt": run("dpkg-query", "-Wf", "${Version}", "libvirt-daemon-system").out,
        "python": run("python3", "-c", "import platform; print(platform.python_version())").out.strip(),
        "virtcpr": __version__,
    }


def commit() -> str:
    """Of the checkout that is measured; empty if it is none of git's."""
    asked = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def of_part(items: Iterable[Item]) -> dict[str, Any]:
    today = datetime.now(UTC).date().isoformat()
    part: dict[str, Any] = {"date": today, "commit": commit(), "rows": [], "steps": [], "not_run": []}
    for item in items:
        match item:
            case Row():
                part["rows"].append(of_row(item))
            case Steps():
                part["steps"].append(asdict(item))
            case NotRun():
                part["not_run"].append(asdict(item))
            case Trace():
                part["spans"] = item.spans
    return part


def of_row(row: Row) -> dict[str, Any]:
    return {
        **asdict(row),
        "measured": _rounded(row.measured),
        "against": _rounded(row.against),
        "value": round(row.value, DIGITS),
        "against_median": round(median(row.against), DIGITS) if row.against else None,
        "ratio": round(row.figure, DIGITS) if row.against else None,
        "within": row.within if row.bound is not None else None,
    }


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, DIGITS) for value in values]


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def write(file: Path, name: str, items: Iterable[Item], about: Mapping[str, object]) -> None:
    """Put a part into the file, beside those that are there.  Raises ValueError if they are another machine's.

    Only the host's part has its machine with it.  A part's trace goes into a file of its own, too, for Perfetto.
    """
    results: dict[str, Any] = read(file) if file.exists() else {"schema": SCHEMA, "parts": {}}
    part = of_part(items)
    if name == HOST:
        part["machine"] = about
    elif results.setdefault("machine", about) != about:
        raise ValueError(f"{file} has the figures of another machine, or of other versions")
    results["parts"][name] = part
    file.write_text(json.dumps(results, indent=1) + "\n")
    spans = results["parts"][name].get("spans")
    if spans:
        file.with_suffix(f".{name}.trace.json").write_text(json.dumps(perfetto(spans)) + "\n")
