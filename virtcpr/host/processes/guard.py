"""A process that outlives this one and notices its end: a transient systemd unit, or a child in its own session."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from virtcpr.errors import HostError
from virtcpr.host.files.atomic import write_private
from virtcpr.host.libvirt.daemon import DriverLock
from virtcpr.host.processes import outlive
from virtcpr.host.processes.proc import Process
from virtcpr.host.processes.run import run
from virtcpr.host.system.lock import RUN_DIR
from virtcpr.host.system.wait import readable

PROGRAM = "virtcpr.actions.guardian"
RECIPE = RUN_DIR / "guardian.json"
LOCK, LOCKED, UNLOCK, UNLOCKED = "lock", "locked", "unlock", "unlocked"
READY_SECONDS = 20.0


class Guard(Protocol):
    def lock(self) -> AbstractContextManager[object]:
        """Keep the daemon's QEMU driver from starting until it is left.  Raises HostError if it has started."""

    def disarm(self) -> None:
        """End the guard: it won't act any more.  Raises nothing; a guard that acts late finds nothing to do."""


def arm(recipe: Mapping[str, object]) -> Guard:
    """Start the guardian; it is watching this process when this returns.

    ``recipe`` says how libvirt's daemon is started again.  Raises HostError if the guardian can't be started.
    """
    write_private(RECIPE, json.dumps(dict(recipe)))
    watched = Process.of(os.getpid())
    command = [sys.executable, "-I", "-m", PROGRAM, str(watched.pid), watched.started]
    if not outlive.has_systemd():
        return _child(command)
    name = f"virtcpr-guardian-{watched.pid}.service"
    outlive.unit(command, name, "settles a swap whose virtcpr dies", READY_SECONDS)
    return Unit(name)


def recipe() -> Mapping[str, object] | None:
    """How to start the daemon, from the last guardian of this boot; None if there was none."""
    try:
        stored: Mapping[str, object] = json.loads(RECIPE.read_text())
    except (OSError, ValueError):
        return None
    return stored


@dataclass(frozen=True)
class Unit:
    """In its own unit the guardian survives if all processes of virtcpr's unit are killed."""

    name: str

    def lock(self) -> DriverLock:
        """This process holds it: if it dies, libvirt's hook settles its swaps before the driver reads their records."""
        return DriverLock()

    def disarm(self) -> None:
        with suppress(HostError):
            run(["systemctl", "stop", self.name])


@dataclass(frozen=True)
class Child:
    process: subprocess.Popen[str]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """The guardian holds it, even if this process dies: a user's libvirt calls no hook that settles swaps first,
        and any client starts the daemon."""
        if (reply := self._ask(LOCK)) != LOCKED:
            raise HostError(reply or "the guardian has ended")
        try:
            yield
        finally:
            self._ask(UNLOCK)

    def _ask(self, what: str) -> str:
        """The guardian's answer; empty if it has ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{what}\n")
            self.process.stdin.flush()
        except OSError:
            return ""
        return self.process.stdout.readline().strip() if readable(self.process.stdout, READY_SECONDS) else ""

    def disarm(self) -> None:
        self.process.kill()
        self.process.wait()


def _child(command: list[str]) -> Child:
    return Child(outlive.child(command, "the guardian", READY_SECONDS))
