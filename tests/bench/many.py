"""One guest and many: blackout and pause of a batch, against a restart of the daemon, a single guest and bare QEMU."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from statistics import median

from tests.bench.figures import Item, Row, Steps, Trace
from tests.bench.herd import Herd
from tests.bench.measure import BareGuests, Moved, milliseconds, move_all, moved, put
from tests.lab.support.builds import EMULATOR, REBUILT
from tests.lab.support.client import run, shell

COUNTS = (1, 8, 24, 60)
TURNS = {1: 7, 8: 5, 24: 3, 60: 3}
BUSY_TURNS = {1: 7, 8: 3, 24: 3, 60: 1}  # a turn of 60 guests, 15 of them busy, takes minutes
SINGLE_TURNS, BARE_TURNS, BARE_AT_MOST = 7, 3, 24
TRACED = (1, 24)
A_GUEST = 60.0  # ms that a guest may add to a blackout


def rows(count: int, *, busy: bool) -> Iterator[Item]:
    """``count`` guests, idle, or a quarter of them busy."""
    herd = Herd(count, busy)
    herd.start()
    run("virtcpr", "list")  # what the first command caches isn't part of any
    restarts, moves, quiet, outside = [], [], [], []
    for turn in range((BUSY_TURNS if busy else TURNS)[count]):
        herd.witness.mark()
        restarts.append(restart(count))
        quiet += herd.silences()
        herd.witness.mark()
        moves.append(move_all(count, (REBUILT, EMULATOR)[turn % 2]))
        outside += herd.silences()
    if count == 1:
        yield Row("blackout", "blackout of one guest, against a restart of libvirtd with it",
                  [one.blackout_ms for one in moves], restarts, 2 * 1.15 if busy else 1.15)  # fmt: skip
    else:
        allowed = [took + A_GUEST * count for took in restarts]
        yield Row("blackout", f"blackout of {count} guests, against a restart and {A_GUEST:g} ms a guest",
                  [one.blackout_ms for one in moves], allowed, 2 if busy else 1)  # fmt: skip
    yield Row("restart", f"a restart of libvirtd with {count} guests", restarts)
    yield from cost(count, moves)
    yield Row("outside", "pause from outside, of the guests that show it", outside)
    yield Row("quiet", "the longest silence of the same guests while only libvirtd is restarted", quiet)
    yield from pauses(herd, [pause for one in moves for pause in one.pauses])
    if count in TRACED:
        yield traced(f"{'busy' if busy else 'idle'}-{count}")
    names = herd.names[:BARE_AT_MOST]
    yield from against_bare(herd, names, [pause for one in moves for pause in one.pauses])


def restart(count: int) -> float:
    """Restart libvirt's daemon; how long until it lists all guests, ms.

    Again where it hung: libvirtd 11.3 does in its own shutdown, one time in ten, for 30 s.
    """
    listed = f"until [ $(virsh -q list 2>/dev/null | wc -l) = {count} ]; do sleep 0.01; done"
    while True:
        took = milliseconds(lambda: shell(f"systemctl restart libvirtd; {listed}"))
        if took < 25_000:
            return took


def cost(count: int, moves: Sequence[Moved]) -> Iterator[Item]:
    yield Row("wall", f"wall time of a move of {count} guests", [one.wall_s for one in moves], unit="s")
    yield Row("cpu", "CPU time of virtcpr in it", [one.cpu_s for one in moves], unit="s")
    yield Row("rss", f"peak memory of virtcpr with {count} guests", [one.rss_mib for one in moves], bound=150,
              unit="MiB")  # fmt: skip
    names = dict.fromkeys(name for name, _ in moves[0].phases)
    steps = {name: median(ms for one in moves for step, ms in one.phases if step == name) for name in names}
    yield Steps("steps", f"steps of a move of one of {count} guests, median (ms)", steps)


def pauses(herd: Herd, all_at_once: list[float]) -> Iterator[Item]:
    """By QEMU's events, against those of a guest that is moved alone while the others do the same."""
    if herd.count == 1:
        yield Row("pause", "pause of a single guest", sorted(all_at_once))
        return
    single = [moved(herd.names[0]) for _ in range(SINGLE_TURNS)]
    what = f"pause of one of {herd.count} guests, against one that is moved alone beside the others"
    yield Row("pause", f"{what}: median", sorted(all_at_once), single, 1.5)
    yield Row("pause-p99", f"{what}: p99 against the median", sorted(all_at_once), single, 2, of="p99")


def traced(key: str) -> Trace:
    """One more move, of which every step is noted."""
    file = "/root/spans.json"
    command = f"upgrade --yes -q --all --force --no-rehearse --emulator {REBUILT}"
    shell("virtcpr upgrade --yes -q --all --force --no-rehearse >/dev/null")
    run("python3", put("traced.py"), file, *command.split(), timeout=600)
    return Trace(key, json.loads(run("cat", file).out))


def against_bare(herd: Herd, names: Sequence[str], ours: list[float]) -> Iterator[Item]:
    """The same guests under the same load, but in bare QEMU: virtcpr's guests end."""
    bare = BareGuests([(name, 100 + number) for number, name in enumerate(names)])
    herd.remove()
    bare.start()
    run("sleep", "15" if len(names) > 1 else "5")  # they boot
    theirs = [pause for turn in range(BARE_TURNS) for pause in bare.swap((REBUILT, EMULATOR)[turn % 2])]
    bare.end()
    what = f"pause of one of {herd.count} guests, against {len(names)} of them in bare QEMU"
    yield Row("pause-bare", what, sorted(ours), sorted(theirs), 0.8)
