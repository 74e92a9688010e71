"""Run in the lab: virtcpr, with something happening at a step of it, and deadlines that a test can wait for.

usage: python3 -c THIS ORDER ARGUMENT...

ORDER is JSON: {"at": {STEP: COMMAND}, "say": {STEP: [SIDE, COMMAND]}, "deadlines": {MODULE.NAME: SECONDS}}.

What is `at` a step is a command of the shell, which runs before the step does anything and finds the guest's processes
in $OLD and $NEW; `spawn` is just after planning, and at `connect` the daemon is down and new has made its devices.
At `switchover` mode live's guest has been paused, and nothing of its devices is handed over yet.
What is to `say` goes to the monitor of old or new QEMU, over virtcpr's own connection, as nobody else is let in, or by
libvirt's daemon: `o /w 0x604 0x2000` writes to the I/O port by which a q35 guest powers itself off.  STEP `pause` is
after the last look at the guest before its pause.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from virtcpr import __main__
from virtcpr.actions.monitor import precopy
from virtcpr.actions.records import journal
from virtcpr.actions.transfer import batch, guest_events, handover
from virtcpr.actions.transfer.move import Move
from virtcpr.host.qemu.qmp import Qmp
from virtcpr.model import Progress, Watch
from virtcpr.plan.steps import Step
from virtcpr.plan.transfer.swap import Plan

move, do, look = batch.Batch.move, handover.HandOver._do, guest_events.as_planned
go_on = precopy.go_on


def main(order: dict[str, Any]) -> int:
    for name, seconds in order.get("deadlines", {}).items():
        module, _, constant = f"virtcpr.{name}".rpartition(".")
        getattr(importlib.import_module(module), constant)  # a deadline that isn't there is a mistake
        setattr(importlib.import_module(module), constant, seconds)
    commands, words = dict(order.get("at", {})), dict(order.get("say", {}))

    def happen(step: str) -> None:
        command = commands.pop(step, None)
        if command is not None:
            subprocess.run(["sh", "-ec", command], check=True, env={**os.environ, **processes()}, stdout=2)

    def move_watched(self: batch.Batch, moves: Sequence[Move], watch: Watch) -> None:
        def watched(progress: Progress) -> None:
            watch(progress)
            happen(progress.phase)

        move(self, moves, watched)

    async def go_on_then(old: Qmp) -> None:
        happen("switchover")
        await go_on(old)

    async def do_told(self: handover.HandOver, step: Step) -> None:
        if step.name in words:
            side, command = words.pop(step.name)
            monitor = {"old": self._old or self._daemon, "new": self._new}[side]
            assert monitor is not None
            await say(monitor, command)
        await do(self, step)

    async def look_and_say(plan: Plan, old: Qmp) -> None:
        await look(plan, old)
        if "pause" in words and words["pause"][0] == "seen":
            await say(old, words.pop("pause")[1])
        elif "pause" in words:
            words["pause"][0] = "seen"  # at `arm`; the next one is before the pause

    batch.Batch.move, handover.HandOver._do = move_watched, do_told  # type: ignore[method-assign]
    guest_events.as_planned, precopy.go_on = look_and_say, go_on_then
    return __main__.main()


async def say(monitor: Qmp, command: str) -> None:
    await monitor.execute("human-monitor-command", {"command-line": command})


def processes() -> dict[str, str]:
    entries = [journal.load(uuid).entry for uuid in journal.pending()]
    return {"OLD": str(entries[0].old_pid), "NEW": str(entries[0].new_pid)} if entries else {}


order = json.loads(sys.argv[1])
sys.argv = ["virtcpr", *sys.argv[2:]]
sys.exit(main(order))
