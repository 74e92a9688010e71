"""docs/performance-host.md from the results: the ratios of the emulated host beside the lab's.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from textwrap import fill
from typing import Any

from tests.bench.figures import HOST
from tests.bench.page import Results, number, table
from tests.bench.why import ON_HOST

HEAD = """\
# Performance on the emulated host, under KVM

<!-- Generated: `make bench` measures, `make performance` writes this page from the figures. -->

[performance.md](performance.md) has what a move costs in the lab, whose guests run under TCG, and says what the words
mean. Some of it was measured on an emulated host, too. There guests run under KVM, and vhost-net, AppArmor's profiles,
machined's scopes and their cgroups are part of a move.

"""

AGAIN = """
## Measure it yourself

    python -m tests.bench host single --json FILE   # as root
    python -m tests.bench.publish FILE host         # this page
"""


def page(results: Results) -> str:
    part = results.data["parts"][HOST]
    shown = []
    for row in part["rows"]:
        lab = results.value("single", row["key"], "ratio")
        shown.append((row["name"], each(row["measured"]), each(row["against"]), number(row["ratio"]), number(lab)))
    header = ("what", "measured on the host, ms", "against, ms", "ratio of the medians", "in the lab")
    return HEAD + machine(part) + "\n\n" + table(header, shown) + known(part) + AGAIN


def known(part: Mapping[str, Any]) -> str:
    text = ON_HOST.get(part["commit"])
    return "" if text is None else "\n" + fill(f"{text}.", 120) + "\n"


def each(values: Iterable[float]) -> str:
    return " ".join(number(value) for value in values)


def machine(part: Mapping[str, Any]) -> str:
    about = part["machine"]
    text = (
        f"The host is {about['where']} with {about['processors']} processors and {about['memory_gib']} GiB, Linux "
        f"{about['kernel']}, QEMU {about['qemu']}, libvirt {about['libvirt']}, Python {about['python']}, virtcpr "
        f"{about['virtcpr']}; measured at {part['commit'] or 'an older commit'}. **Its processors are emulated: "
        "everything takes many times longer than on real ones**: compare the ratios. Real hardware was not measured. "
        "There was one guest, which sends a packet every 20 ms, in the lab every 2 ms."
    )
    return fill(text, 120, break_on_hyphens=False)
