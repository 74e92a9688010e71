"""Run in the lab: virtcpr, which stands still (SIGSTOP) at one moment of a save, a restore, an upgrade by mode reboot.

usage: python3 halt_reboot.py MOMENT ARGUMENT…

support/chaos_moments_reboot.py names them.  What is wrapped here, from outside, is where a step begins and ends.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from virtcpr.__main__ import main
from virtcpr.actions.reboot import restore_guest, strip
from virtcpr.actions.reboot.restore_guest import Restoring
from virtcpr.actions.reboot.save_guest import Saving
from virtcpr.actions.records import saves
from virtcpr.actions.records.saves import Record
from virtcpr.host.libvirt.connection import Connection, Domain
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.stream import Stream
from virtcpr.plan.reboot.recovery import Stage

STARTING_SECONDS = 0.1  # libvirt takes some times as long to start a domain


class Halt:
    """Stands still at one moment, once: what virtcpr does about a failure may lead there again."""

    def __init__(self, moment: str) -> None:
        self.moment, self.over, self.step = moment, False, ""

    def at(self, moment: str) -> None:
        """The signal is this thread's own: it doesn't return before it has come."""
        if moment == self.moment and not self.over:
            self.over = True
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

    def wrap(self) -> None:
        for steps in (Saving, Restoring):
            self._wrap(steps, "_step", lambda args: f"before {args[1]}", lambda args: f"after {args[1]}", self._note)
        self._wrap(Record, "write", lambda args: f"before record {_stage(args)}", lambda args: f"record {_stage(args)}")
        self._wrap(Connection, "start_paused", self._before_create, lambda _: "after create")
        self._wrap(restore_guest, "finish", lambda _: "before finish", lambda _: "after finish")
        self._wrap(strip, "strip_in_blackout", lambda _: "before strip", lambda _: "after strip")
        self._wrap(strip, "strip_records", lambda _: "in strip", _never)
        for writer in ("replace_durably", "write_private"):
            self._wrap(saves, writer, lambda _: "in record saving", _never)
        self._wrap(os, "link", lambda _: "in keep", _never)
        self._wrap(shutil, "rmtree", lambda _: "in finish", _never)
        self._wrap(Domain, "suspend_to_ram", _never, lambda _: "in suspend")
        # Between these and the end of a step virtcpr has no step of its own.
        self._wrap(Stream, "given", _never, lambda _: f"in {self.step}")
        self._wrap(Process, "kill", lambda _: "old stopped" if self.step == "end-old" else "", _never)

    def _before_create(self, _: tuple[Any, ...]) -> str:
        threading.Timer(STARTING_SECONDS, self.at, ["in create"]).start()
        return "before create"

    def _note(self, args: tuple[Any, ...]) -> None:
        self.step = args[1]

    def _wrap(
        self,
        owner: Any,
        name: str,
        before: Callable[[tuple[Any, ...]], str],
        after: Callable[[tuple[Any, ...]], str],
        note: Callable[[tuple[Any, ...]], None] = lambda _: None,
    ) -> None:
        action = getattr(owner, name)

        @functools.wraps(action)
        def wrapped(*args: Any, **more: Any) -> Any:
            note(args)
            self.at(before(args))
            result = action(*args, **more)
            self.at(after(args))
            return result

        setattr(owner, name, wrapped)


def _never(_: tuple[Any, ...]) -> str:
    return ""


def _stage(args: tuple[Any, ...]) -> str:
    stage: Stage = args[1]
    return stage.value


if __name__ == "__main__":
    Halt(sys.argv[1]).wrap()
    sys.argv[:2] = ["virtcpr"]
    sys.exit(main())
