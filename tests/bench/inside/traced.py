"""Run virtcpr and write when each step, each QMP command and each event was.  Runs in the lab.

usage: traced.py FILE ARGUMENT…   FILE gets a list of spans: lane, name, begin, end (s of the host's clock)

The product has no hooks for this: what it does is wrapped here, from outside.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from virtcpr.__main__ import main
from virtcpr.actions.monitor.passthrough import Passthrough
from virtcpr.actions.transfer.handover import HandOver
from virtcpr.host.libvirt.daemon import SystemdDaemon
from virtcpr.host.qemu.qmp import Monitor

spans: list[dict[str, float | str]] = []


def note(lane: str, name: str, begin: float, end: float) -> None:
    spans.append({"lane": lane, "name": name, "begin": begin, "end": end})


def timed(action: Callable[..., Any], describe: Callable[..., tuple[str, str]]) -> Callable[..., Any]:
    """The coroutine function, which leaves a span; ``describe`` makes lane and name of its arguments."""

    @functools.wraps(action)
    async def wrapped(*arguments: Any, **named: Any) -> Any:
        begun = time.time()
        try:
            return await action(*arguments, **named)
        finally:
            note(*describe(*arguments), begun, time.time())

    return wrapped


def timed_call(action: Callable[..., Any], lane: str, name: str) -> Callable[..., Any]:
    @functools.wraps(action)
    def wrapped(*arguments: Any) -> Any:
        begun = time.time()
        try:
            return action(*arguments)
        finally:
            note(lane, name, begun, time.time())

    return wrapped


def keeping_events(close: Callable[..., Any]) -> Callable[..., Any]:
    """QEMU's own stamps of what it said on this monitor."""

    @functools.wraps(close)
    async def wrapped(self: Monitor) -> None:
        for name, events in self._events.items():
            for event in events:
                stamp: Any = event["timestamp"]
                data: Any = event.get("data") or {}
                at = stamp["seconds"] + stamp["microseconds"] / 1e6
                what = f"{name} {data['status']}" if "status" in data else name
                note(f"{self.name}: events", what, at, at)
        await close(self)

    return wrapped


def wrap() -> None:
    HandOver._do = timed(HandOver._do, lambda self, step: (self.plan.name, step.name))  # type: ignore[method-assign]
    for side in (Monitor, Passthrough):
        execute = timed(side.execute, lambda self, command, *_: (f"{self.name}: QMP", command))
        setattr(side, "execute", execute)  # noqa: B010
    Monitor.close = keeping_events(Monitor.close)  # type: ignore[method-assign]
    for name in ("stop", "start"):
        setattr(SystemdDaemon, name, timed_call(getattr(SystemdDaemon, name), "libvirt's daemon", name))


if __name__ == "__main__":
    wrap()
    file = Path(sys.argv[1])
    sys.argv[:2] = ["virtcpr"]
    try:
        sys.exit(main())
    finally:
        file.write_text(json.dumps(spans))
