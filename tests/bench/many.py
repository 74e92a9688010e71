"""One guest and many: blackout and pause of a batch, against a restart of the daemon, a single guest and bare QEMU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from tests.bench.figures import Item, NotRun, Row, Steps, p99
from tests.bench.herd import Herd
from tests.bench.measure import BareGuests, Moved, milliseconds, move_all, moved, traced
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILT
from tests.lab.support.client import run, shell

COUNTS = (1, 8, 24, 60)
TURNS = {1: 7, 8: 3, 24: 3, 60: 2}
BUSY_TURNS = {1: 7, 8: 3, 24: 2, 60: 1}  # a turn of 60 guests, 15 of them busy, takes minutes
SINGLE_TURNS, BARE_TURNS, BARE_AT_MOST = 7, 2, 24
A_GUEST = 60.0  # ms that a guest may add to a blackout


def rows(count: int, *, busy: bool) -> Iterator[Item]:
    """``count`` guests, idle, or a quarter of them busy."""
    herd = Herd(count, busy)
    herd.start()
    # As an upgrade does, unless it is told not to: a twin of each kind of guest runs in the other build first.
    run("virtcpr", "plan", "--all", "--emulator", REBUILT, check=False, timeout=300)
    restarts, moves, quiet, outside = [], [], [], []
    for turn in range((BUSY_TURNS if busy else TURNS)[count]):
        herd.witness.mark()
        restarts.append(restart(count))
        quiet += herd.silences()
        herd.witness.mark()
        moves.append(move_all(count, (REBUILT, EMULATOR)[turn % 2]))
        outside += herd.silences()
    yield from blackouts(count, moves, restarts, busy=busy)
    yield Row("restart", f"a restart of libvirtd, guests: {count}", restarts)
    yield from cost(count, moves)
    yield Row("outside", "pause from outside, of the guests that show it", outside)
    yield Row("quiet", "the longest silence of the same guests while only libvirtd is restarted", quiet)
    yield from pauses(herd, [pause for one in moves for pause in one.pauses])
    yield traced(f"{'busy' if busy else 'idle'}-{count}", "--all")
    if count <= BARE_AT_MOST:
        yield from against_bare(herd, [pause for one in moves for pause in one.pauses])
    else:
        yield NotRun(
            f"bare swaps of {count} guests, {'a quarter of them busy' if busy else 'idle'}", "they take too long"
        )


def blackouts(count: int, moves: Sequence[Moved], restarts: Sequence[float], *, busy: bool) -> Iterator[Row]:
    """Against a restart; a second time without those in which libvirtd hung, as no restart here has that."""
    allowed = restarts if count == 1 else [took + A_GUEST * count for took in restarts]
    bound = (1.15 if count == 1 else 1) * (2 if busy else 1)
    against = "a restart of libvirtd" if count == 1 else f"a restart and {A_GUEST:g} ms a guest"
    name = f"blackout, guests: {count}, against {against}"
    yield Row("blackout", name, [one.blackout_ms for one in moves], allowed, bound)
    whole = [one.blackout_ms for one in moves if not one.hung]
    if whole and len(whole) < len(moves):
        hung = len(moves) - len(whole)
        yield Row("blackout-whole", f"{name}; without {hung} in which libvirtd hung in its shutdown", whole, allowed)


def restart(count: int) -> float:
    """Restart libvirt's daemon; how long until it lists all guests, ms.

    Again where it hung: libvirtd 11.3 does in its own shutdown, one time in ten, for 30 s.
    """
    listed = f"until [ $(virsh -q list 2>/dev/null | wc -l) = {count} ]; do sleep 0.01; done"
    while True:
        took = milliseconds(lambda: shell(f"systemctl restart libvirtd; {listed}"))
        if took < 25_000 * client.slowness():
            return took


def cost(count: int, moves: Sequence[Moved]) -> Iterator[Item]:
    yield Row("wall", f"wall time of a move, guests: {count}", [one.wall_s for one in moves], unit="s")
    yield Row("cpu", "CPU time of virtcpr in it", [one.cpu_s for one in moves], unit="s")
    yield Row("rss", f"peak memory of virtcpr, guests: {count}", [one.rss_mib for one in moves], bound=150,
              unit="MiB")  # fmt: skip
    names = dict.fromkeys(name for name, _ in moves[0].phases)
    steps = {name: median(ms for one in moves for step, ms in one.phases if step == name) for name in names}
    yield Steps("steps", f"steps of a move of one guest, median (ms); guests: {count}", steps)


def pauses(herd: Herd, all_at_once: list[float]) -> Iterator[Item]:
    """By QEMU's events, against those of a guest that is moved alone while the others do the same."""
    if herd.count == 1:
        yield Row("pause", "pause of a single guest", sorted(all_at_once))
        return
    single = [moved(herd.names[0]) for _ in range(SINGLE_TURNS)]
    what = f"pause by QEMU of one of {herd.count} guests, against one that is moved alone beside the others"
    yield Row("pause", f"{what}: median", sorted(all_at_once), single, 1.5)
    yield Row("pause-p99", f"{what}: p99 against the median", sorted(all_at_once), single, 2, of="p99")
    yield Row("pause-p99-both", f"{what}: p99 against p99", sorted(all_at_once), [p99(single)], 2, of="p99")


def against_bare(herd: Herd, ours: list[float]) -> Iterator[Item]:
    """The same guests under the same load, but in bare QEMU: libvirt's end."""
    bare = BareGuests([(name, 100 + number) for number, name in enumerate(herd.names)])
    herd.remove()
    bare.start()
    run("sleep", "15" if herd.count > 1 else "5")  # they boot
    theirs = [pause for turn in range(BARE_TURNS) for pause in bare.swap((REBUILT, EMULATOR)[turn % 2])]
    bare.end()
    what = f"pause by QEMU against the same guests in bare QEMU, guests: {herd.count}"
    yield Row("pause-bare", what, sorted(ours), sorted(theirs), 0.8)
