"""What people found out about the figures, for docs/performance.md: why one is over its bound, what was not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# By part, or the part's first word, and the row's key; shown only if the figure is over its bound.
WHY: Mapping[tuple[str, str], str] = {}

# What no part measures.
NOT_RUN: Sequence[tuple[str, str]] = (
    ("real hardware", "no machine of the tests has KVM of its own"),
    (
        "the emulated host, whose guests run under KVM, beside the lab",
        "its processors are emulated, so that its ratios say little about pauses",
    ),
    ("blackout with `--max-blackout`", "it is a test of the lab, and no figure here"),
)
