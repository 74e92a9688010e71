"""Run in the lab: virtcpr, which stands still (SIGSTOP) at one moment of an upgrade (support/chaos_moments.py).

usage: python3 halt.py MOMENT ARGUMENT…

The product carries no hooks for tests: what is wrapped here, from outside, is where one step ends and the next begins.
"""

from __future__ import annotations

import functools
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from virtcpr.__main__ import main
from virtcpr.actions.records.journal import Journal
from virtcpr.actions.transfer.handover import HandOver
from virtcpr.host.libvirt.daemon import PlainDaemon, SystemdDaemon
from virtcpr.plan.steps import State, Step

INTERRUPTED = "before incoming"  # where a roll-back is wanted, it is begun here by a Ctrl-C
_been: set[str] = set()


def arrived(moment: str, wanted: str) -> None:
    """Stand still where it is this moment for the first time: settling may write the same state once more.

    The signal is this thread's own: it doesn't return before it has come.
    """
    if wanted == "journal rolled-back" and moment == INTERRUPTED:
        signal.raise_signal(signal.SIGINT)
    if moment == wanted and moment not in _been:
        _been.add(moment)
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def wrap(wanted: str) -> None:
    do, write = HandOver._do, Journal.write

    async def _do(self: HandOver, step: Step) -> None:
        arrived(f"before {step.name}", wanted)
        await do(self, step)

    def _write(self: Journal, state: State, **changes: object) -> None:
        write(self, state, **changes)
        if "new_pid" in changes:
            arrived("after spawn", wanted)
        elif not changes:
            arrived(f"journal {state.value}", wanted)

    HandOver._do = _do  # type: ignore[method-assign]
    Journal.write = _write  # type: ignore[method-assign]
    for daemon in (SystemdDaemon, PlainDaemon):
        for name in ("stop", "start"):
            setattr(daemon, name, _between(getattr(daemon, name), name, wanted))


def _between(action: Callable[..., None], name: str, wanted: str) -> Callable[..., None]:
    @functools.wraps(action)
    def wrapped(*arguments: Any) -> None:
        arrived(f"before {name}", wanted)
        action(*arguments)
        arrived(f"after {name}", wanted)

    return wrapped


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    wrap(sys.argv[1])
    sys.argv[:2] = ["virtcpr"]
    sys.exit(main())
