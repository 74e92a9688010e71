"""What people found out about the figures, for docs/performance.md: why one is over its bound, what was not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

BARE = (
    "virtcpr's pause is longer by its look at both sides before it says `cont` (second part, above): bare QEMU runs "
    "the guest as soon as it is loaded, and can't go back. What QEMU does by itself takes about as long as all of bare "
    "QEMU's pause, so that no change of virtcpr alone can reach this bound by QEMU's events"
)

# By part, or the part's first word, and the row's key; shown only if the figure is over its bound.
WHY: Mapping[tuple[str, str], str] = {
    ("single", "pause"): BARE,
    ("idle", "pause-bare"): BARE,
    ("busy", "pause-bare"): BARE,
    ("single", "outside"): (
        "Most of this pause comes after the guest runs again, in bare QEMU, too: TCG translates its code anew before "
        "the first packet leaves. That hides what the two differ by"
    ),
    ("commands", "hook-qemu-prepare"): (
        "The hook is a shell script that runs six programs (`grep`, `id` and four times `ls`), and each process takes "
        "about 1 ms here. It is for the start of a domain only; the other operations take the path of 2 ms"
    ),
}

# What no part measures.
NOT_RUN: Sequence[tuple[str, str]] = (
    ("real hardware", "no machine of the tests has KVM of its own"),
    (
        "the emulated host, whose guests run under KVM, beside the lab",
        "its processors are emulated, and this bench knows only the lab so far",
    ),
)
