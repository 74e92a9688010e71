"""Where and as whom a process runs, as ``/proc`` shows it: to be compared with another's."""

from __future__ import annotations

import os
from contextlib import suppress

from virtcpr.host.processes.proc import Process

IDS = ("Uid:", "Gid:", "Groups:")


def of(process: Process) -> dict[str, str]:
    """Its cgroup (of the unified hierarchy), mount namespace, security label, user and groups; what can't be read is
    left out.  The names are those of ``plan.reconnect``."""
    found: dict[str, str] = {}
    if os.geteuid() == 0:  # a user's guests have none of libvirt's, and may not go where they like
        with suppress(OSError):
            lines = (process.path / "cgroup").read_text().splitlines()
            found["cgroup"] = " ".join(line.removeprefix("0::") for line in lines if line.startswith("0::"))
    with suppress(OSError):
        found["mount namespace"] = os.readlink(process.path / "ns/mnt")
    with suppress(OSError):
        found["security label"] = (process.path / "attr/current").read_text().strip("\0\n ")
    with suppress(OSError):
        ids = ("/".join(line.split()) for line in (process.path / "status").read_text().splitlines())
        found["user and groups"] = " ".join(line for line in ids if line.startswith(IDS))
    return found
