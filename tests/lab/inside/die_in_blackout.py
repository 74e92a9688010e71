"""Run in the lab: virtcpr, which is killed (SIGKILL) at one moment of a blackout of libvirt's daemon.

usage: python3 die_in_blackout.py MOMENT ARGUMENT…

What is wrapped here, from outside, is where the daemon is stopped, kept out and started.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from virtcpr.__main__ import main
from virtcpr.host.libvirt.daemon import DriverLock, SystemdDaemon

STOPPING_SECONDS = 1.0  # by then systemd has been told


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


MOMENTS: dict[str, tuple[Any, str, Callable[..., object] | None, Callable[..., object] | None]] = {
    "before stop": (SystemdDaemon, "stop", lambda _: die(), None),
    "in stop": (SystemdDaemon, "stop", lambda _: threading.Timer(STOPPING_SECONDS, die).start(), None),
    "after stop": (SystemdDaemon, "stop", None, lambda _: die()),
    "kept out": (DriverLock, "__enter__", None, lambda _: die()),
    "before start": (SystemdDaemon, "start", lambda _: die(), None),
    "in start": (SystemdDaemon, "start", lambda _: threading.Timer(0.05, die).start(), None),
    "after start": (SystemdDaemon, "start", None, lambda _: die()),
}


def wrap(moment: str) -> None:
    owner, name, before, after = MOMENTS[moment]
    action = getattr(owner, name)

    def wrapped(self: Any, *args: Any) -> Any:
        if before is not None:
            before(self)
        result = action(self, *args)
        if after is not None:
            after(self)
        return result

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    wrap(sys.argv[1])
    sys.argv[:2] = ["virtcpr"]
    sys.exit(main())
