"""What people found out about the figures, for docs/performance.md: why one is over its bound, what was not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

BARE = (
    "virtcpr's pause is longer by its look at both sides before it says `cont` (second part, above): bare QEMU runs "
    "the guest as soon as it is loaded, and can't go back. What QEMU does by itself takes about as long as all of bare "
    "QEMU's pause, so that no change of virtcpr alone can reach this bound by QEMU's events"
)

P99 = (
    "In six more moves of sixty idle guests, each traced, the longest pause was 33 to 44 ms, of which 28 to 37 were "
    "the first part (above): QEMU stops the guest, writes the state of its devices and loads it, and virtcpr only "
    "waits. Why that takes longer in some guests, other ones each time, isn't known. Of the twelve longest pauses of "
    "each move virtcpr's part took 3 to 11 ms"
)

P99_BUSY = (
    "With busy guests each process waits for its turn at a processor, QEMU and virtcpr alike: of the longest pauses "
    "that were traced some are nearly all QEMU's part (above), others virtcpr's. A single guest that is moved beside "
    "the same load fares no better: with six busy guests its pauses are from 57 ms to 7 s"
)

LEFT = (
    "Up to 256 MiB of RAM are left to copy when the daemon is stopped, so that QEMU doesn't come to the end before "
    "that. Here QEMU needs half a second or more for them (`switch`), and the pause itself is longer by 0.2 s"
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
    ("idle", "blackout"): (
        "A guest takes 30 ms or more from `incoming` to `commit`, most of it QEMU's, and its share of `connect` and of "
        "`machined` to `preflight` is about as much. To be within the bound, `preflight` would have to be cheaper. "
        "Where libvirtd hung in its own shutdown, until virtcpr killed it, a blackout is a second longer"
    ),
    ("busy", "blackout"): (
        "Six busy guests share two processors with virtcpr and libvirt; virtcpr itself worked for 4 to 5 s of the "
        "212 to 246 s of such a move, and waited otherwise. In the traced move 20 s went by from the daemon's stop "
        "until it was started: 3.7 s for `connect`, 6.9 s for the hand-overs, 8.1 s for what follows them "
        "(`machined` to `preflight`); then libvirtd takes up its guests, for which it needs 7 to 9 s when it is "
        "only restarted. Tried with twelve guests, three of them busy, three moves each: a nice value of -20 for "
        "virtcpr, all guests at once in these steps, both: medians of 6.6, 6.8 and 8.7 s, without either 7.8 s, "
        "between restarts of 3.6 to 6.8 s. That is no difference that could be told from the noise"
    ),
    ("idle", "pause-p99"): P99,
    ("idle", "pause-p99-both"): P99,
    ("busy", "pause-p99"): P99_BUSY,
    ("busy", "pause-p99-both"): P99_BUSY,
    ("live", "live-still-blackout"): LEFT,
    ("live", "live-writer-blackout"): LEFT,
    ("copies", "migration-ram"): (
        "Both QEMUs hold all of the guest's RAM then; what lacks is of QEMU's own memory, which new QEMU has less of"
    ),
}

# What is known of the host's part as it was measured at that commit.
ON_HOST: Mapping[str, str] = {
    "893a838": (
        "One silence from outside is far longer than the others, and than the pause by QEMU of that move, and the "
        "bench didn't look whether the guest had been reset; it does now. Where several guests ran on the emulated "
        "host, which emulates their virtualization, too, some were reset by themselves; here a guest in bare QEMU ran "
        "beside. In seventeen more moves of the guest alone, the longest silence was 1.1 s"
    ),
}

# What no part measures.
NOT_RUN: Sequence[tuple[str, str]] = (("real hardware", "no machine of the tests has KVM of its own"),)

# Why a part isn't in the run, if more is known.
MISSING: Mapping[str, str] = {
    "busy-60": (
        "on two processors one move of 24 guests, six of them busy, takes four minutes; this would take twenty, and "
        "the part an hour"
    ),
}
