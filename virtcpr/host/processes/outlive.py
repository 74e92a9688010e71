"""Start a process that outlives this one: as a transient systemd unit, or as a child in a session of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from virtcpr.errors import HostError
from virtcpr.host.processes.run import run
from virtcpr.host.system.wait import readable

SYSTEMD = Path("/run/systemd/system")
READY = "ready"  # the line by which a child says that it has begun


def has_systemd() -> bool:
    """Whether this process may start units."""
    return SYSTEMD.is_dir() and os.geteuid() == 0


def unit(command: Sequence[str], name: str, describe: str, seconds: float) -> None:
    """Run it in its own unit, which survives if all processes of this one's are killed; it is ready (sd_notify(3)) when
    this returns.  Raises HostError, after these seconds at most."""
    with suppress(HostError):  # left behind by an earlier one of that name
        run(["systemctl", "reset-failed", name])
    properties = [
        "--property=Type=notify",
        "--property=NotifyAccess=main",
        "--property=SyslogIdentifier=virtcpr",  # for `journalctl -t virtcpr`, as every other record
        f"--property=TimeoutStartSec={seconds:g}",
    ]
    described = f"--description=virtcpr: {describe}"
    run(["systemd-run", "--quiet", "--collect", f"--unit={name}", described, *properties, "--", *command])


def child(command: Sequence[str], what: str, seconds: float) -> subprocess.Popen[str]:
    """Run it with pipes as its input and output; it has said ``READY`` when this returns.

    Raises HostError, after these seconds at most; ``what`` it is called there.
    """
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/", start_new_session=True
        )
    except OSError as error:
        raise HostError(f"{what} can't be started: {error.strerror}") from error
    assert process.stdout is not None
    if not readable(process.stdout, seconds) or process.stdout.readline().strip() != READY:
        process.kill()
        process.wait()
        raise HostError(f"{what} didn't start, or ended at once")
    return process
