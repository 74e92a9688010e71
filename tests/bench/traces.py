"""Spans of a run as a file for Perfetto (https://ui.perfetto.dev): JSON of the trace event format.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.bench.figures import Span

GUEST = "guest"


def perfetto(spans: Sequence[Span]) -> dict[str, Any]:
    """A process for each guest and a thread for each of its lanes; times in µs since the first of them.

    QEMU's STOP and RESUME become a span of their own: the guest doesn't run.
    """
    every = [*spans, *stopped(spans)]
    zero = min(float(span["begin"]) for span in every)
    processes: dict[str, int] = {}
    threads: dict[tuple[str, str], int] = {}
    events: list[dict[str, Any]] = []
    for span in every:
        guest, lane = split(str(span["lane"]))
        pid = processes.setdefault(guest, len(processes) + 1)
        tid = threads.setdefault((guest, lane), len(threads) + 1)
        begin, end = (round((float(span[side]) - zero) * 1e6) for side in ("begin", "end"))
        event = {"name": span["name"], "pid": pid, "tid": tid, "ts": begin}
        events.append(event | ({"ph": "X", "dur": end - begin} if end > begin else {"ph": "i", "s": "t"}))
    names = [_named("process_name", guest, pid, 0) for guest, pid in processes.items()]
    names += [_named("thread_name", lane, processes[guest], tid) for (guest, lane), tid in threads.items()]
    return {"displayTimeUnit": "ms", "traceEvents": [*names, *events]}


def _named(kind: str, name: str, pid: int, tid: int) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}


def split(lane: str) -> tuple[str, str]:
    """``web (old QEMU): QMP`` → the guest ``web``, and its lane ``old QEMU: QMP``; ``web`` alone: its steps."""
    guest, bracket, rest = lane.partition(" (")
    return guest, rest.replace(")", "", 1) if bracket else "steps"


def stopped(spans: Sequence[Span]) -> Iterator[Span]:
    """From old QEMU's last STOP to new QEMU's RESUME, for each guest."""
    for guest, at in _events(spans).items():
        if at.keys() >= {"old STOP", "new RESUME"}:
            begin, end = at["old STOP"], at["new RESUME"]
            yield {"lane": f"{guest} ({GUEST})", "name": "doesn't run", "begin": begin, "end": end}


def _events(spans: Sequence[Span]) -> Mapping[str, Mapping[str, float]]:
    """When each event of each guest came last: ``old STOP``."""
    at: dict[str, dict[str, float]] = {}
    for span in spans:
        guest, lane = split(str(span["lane"]))
        if lane in ("old QEMU: events", "new QEMU: events"):
            at.setdefault(guest, {})[f"{lane[:3]} {span['name']}"] = float(span["begin"])
    return at


def shares(spans: Sequence[Span]) -> list[tuple[float, float]]:
    """Each guest's pause in two, ms: until both QEMUs say that the device state is moved, and from then on."""
    found = []
    for at in _events(spans).values():
        ends = [at[name] for name in ("old MIGRATION completed", "new MIGRATION completed") if name in at]
        if len(ends) == 2 and at.keys() >= {"old STOP", "new RESUME"}:
            found.append(((max(ends) - at["old STOP"]) * 1000, (at["new RESUME"] - max(ends)) * 1000))
    return found


def of_guest(spans: Sequence[Span], guest: str) -> Mapping[str, list[Span]]:
    """The spans of one guest, by lane."""
    lanes: dict[str, list[Span]] = {}
    for span in (*spans, *stopped(spans)):
        name, lane = split(str(span["lane"]))
        if name == guest:
            lanes.setdefault(lane, []).append(span)
    return lanes
