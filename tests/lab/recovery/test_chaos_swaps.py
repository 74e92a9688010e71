"""One busy guest, swapped again and again, virtcpr killed at random: it never notices more than pauses."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.lab.support.chaos import SCRIPTS, Case, Host
from tests.lab.support.chaos_matrix import SEEN
from tests.lab.support.client import LAB
from tests.lab.support.guests import DATABASE, Disk
from tests.lab.support.machine import Lab

SWAPS = 100
SEED = int(os.environ.get("VIRTCPR_CHAOS_SEED") or random.randrange(1 << 32))
# Twenty times the heartbeats and some ten times the disk writes of the other guests.
BUSY = replace(
    DATABASE,
    name="busy",
    number=15,
    interval_us=500,
    disks=(Disk("virtio", "qcow2"), Disk("scsi", "raw"), Disk("virtio", "raw")),
    kernel_options="witness.disk_pause=3000 witness.ram_pause=5000",
)


@contextmanager
def stream(ip: str) -> Iterator[dict[str, object]]:
    """A TCP stream to the guest and back; what it found is there afterwards."""
    command = [str(LAB), "exec", "python3", f"{SCRIPTS}/stream.py", ip]
    found: dict[str, object] = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield found
        out, _ = process.communicate(timeout=60)
        found |= json.loads(out)


@pytest.mark.thorough
@pytest.mark.timeout(4 * 3600)
def test_swaps_in_a_row_under_load_and_kills(lab: Lab) -> None:
    """In a third of the swaps, drawn with a seed, virtcpr is killed at a moment drawn with it."""
    chance = random.Random(SEED)
    SEEN.lines.append(f"swaps in a row: seed {SEED}; VIRTCPR_CHAOS_SEED={SEED} repeats them")
    kills = set(chance.sample(range(SWAPS), SWAPS // 3))
    ends: Counter[str] = Counter()
    host = Host(BUSY)
    host.ready()
    boot = host.boot
    with stream(BUSY.ip) as found:
        for turn in range(SWAPS):
            ends[one_swap(host, chance, killed=turn in kills)] += 1
    report = host.witness.report(BUSY)
    host.close()

    assert found["wrong"] == "", found
    assert report["boot_mark"] == boot, report
    assert report["ram_errors"] == report["disk_errors"] == report["failures"] == 0, report
    counts = ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))
    SEEN.lines.append(
        f"{SWAPS} swaps in a row: {counts}; one boot, {report['disk_writes']} disk writes, "
        f"{found['bytes']} bytes through TCP, no errors"
    )


def one_swap(host: Host, chance: random.Random, *, killed: bool) -> str:
    """What became of it.  A kill by itself never loses or resets a guest."""
    host.ready()
    then = chance.choice(("guardian", "hook", "recover"))
    seen = host.strike(Case("", ("virtcpr",) if killed else (), then if killed else ""), seed=chance.getrandbits(32))
    outcome = host.outcome(seen)
    assert outcome in ("old", "new"), seen
    if not killed:
        assert seen["report"]["exit_code"] == 0, seen
        assert seen["report"]["domains"][0]["findings"] == [], seen
    at = seen["journal"].get("state", "the end") if killed else ""
    return f"killed at {at}, then {outcome}" if killed else outcome
