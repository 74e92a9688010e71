"""Network interfaces of the host that are ports of bridges."""

from __future__ import annotations

import os
from pathlib import Path

CLASS = Path("/sys/class/net")
IFF_UP = 1  # linux/if.h


def port(interface: str) -> tuple[str | None, bool] | None:
    """The bridge (or switch) that an interface is a port of, if any, and whether it is up; None if it is gone."""
    try:
        up = bool(int((CLASS / interface / "flags").read_text(), 16) & IFF_UP)
    except OSError:
        return None
    try:
        return os.path.basename(os.readlink(CLASS / interface / "master")), up
    except OSError:
        return None, up
