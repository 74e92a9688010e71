"""A process that outlives this one and notices its end: a transient systemd unit, or a child of its own session."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from virtcpr.errors import HostError
from virtcpr.host.files import write_private
from virtcpr.host.lock import RUN_DIR
from virtcpr.host.proc import Process
from virtcpr.host.run import run

PROGRAM = "virtcpr.swap.guardian"
RECIPE = RUN_DIR / "guardian.json"
READY = "ready"
READY_SECONDS = 20.0
SYSTEMD = Path("/run/systemd/system")


class Guard(Protocol):
    def disarm(self) -> None:
        """End it: it won't act any more.  Raises nothing; a guard that acts late finds nothing to do."""


def arm(recipe: Mapping[str, object]) -> Guard:
    """Have this process watched; the guard is at its post when this returns.

    ``recipe`` says how libvirt's daemon is started again.  Raises HostError where no guard can be had.
    """
    write_private(RECIPE, json.dumps(dict(recipe)))
    watched = Process.of(os.getpid())
    command = [sys.executable, "-I", "-m", PROGRAM, str(watched.pid), watched.started]
    if SYSTEMD.is_dir():
        return _unit(command, f"virtcpr-guardian-{watched.pid}.service")
    return _child(command)


def recipe() -> Mapping[str, object] | None:
    """How the daemon is started, as the last guardian of this boot was told; None where there was none."""
    try:
        found: Mapping[str, object] = json.loads(RECIPE.read_text())
    except (OSError, ValueError):
        return None
    return found


@dataclass(frozen=True)
class Unit:
    """In a unit of its own it survives also whoever ends all processes of our own unit."""

    name: str

    def disarm(self) -> None:
        with suppress(HostError):
            run(["systemctl", "stop", self.name])


def _unit(command: list[str], name: str) -> Unit:
    with suppress(HostError):  # left behind by a process of the same number
        run(["systemctl", "reset-failed", name])
    properties = [
        "--property=Type=notify",
        "--property=NotifyAccess=main",
        f"--property=TimeoutStartSec={READY_SECONDS:g}",
    ]
    describe = "--description=virtcpr: settles a swap whose virtcpr dies"
    run(["systemd-run", "--quiet", "--collect", f"--unit={name}", describe, *properties, "--", *command])
    return Unit(name)


@dataclass(frozen=True)
class Child:
    process: subprocess.Popen[str]

    def disarm(self) -> None:
        self.process.kill()
        self.process.wait()


def _child(command: list[str]) -> Child:
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, cwd="/", start_new_session=True
        )
    except OSError as error:
        raise HostError(f"the guardian can't be started: {error.strerror}") from error
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], READY_SECONDS)
    if not ready or process.stdout.readline().strip() != READY:
        process.kill()
        process.wait()
        raise HostError("the guardian ended at once, or didn't come up")
    return Child(process)
