"""What people found out about the figures, for docs/performance.md: why one is over its bound, what was not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

BARE = (
    "virtcpr's pause is longer by its look at both sides before it says `cont` (second part, above): bare QEMU runs "
    "the guest as soon as it is loaded, and can't go back. What QEMU does by itself takes about as long as all of bare "
    "QEMU's pause, so that no change of virtcpr alone can reach this bound by QEMU's events"
)

P99 = "Single guests of a batch pause longer than the others; what held up which of them isn't known yet"

# By part, or the part's first word, and the row's key; shown only if the figure is over its bound.
WHY: Mapping[tuple[str, str], str] = {
    ("single", "pause"): BARE,
    ("idle", "pause-bare"): BARE,
    ("busy", "pause-bare"): BARE,
    ("single", "outside"): (
        "Most of this pause comes after the guest runs again, in bare QEMU, too: TCG translates its code anew before "
        "the first packet leaves. That hides what the two differ by"
    ),
    ("idle", "blackout"): (
        "A guest takes 30 ms or more from `incoming` to `commit`, most of it QEMU's, and its share of `connect` and of "
        "`machined` to `preflight` is about as much. To be within the bound, `preflight` would have to be cheaper. "
        "Where libvirtd hung in its own shutdown, until virtcpr killed it, a blackout is a second longer"
    ),
    ("busy", "blackout"): (
        "Six busy guests share two processors with virtcpr and libvirt, and every step takes about ten times as long "
        "as with idle guests (see the steps); virtcpr has no precedence over the guests"
    ),
    ("idle", "pause-p99"): P99,
    ("idle", "pause-p99-both"): P99,
    ("busy", "pause-p99"): P99,
    ("busy", "pause-p99-both"): P99,
    ("copies", "migration-ram"): (
        "Both QEMUs hold all of the guest's RAM then; what lacks is of QEMU's own memory, which new QEMU has less of"
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
