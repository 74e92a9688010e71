"""docs/deadlines.md has every deadline, with the value that the code has."""

from __future__ import annotations

import importlib
import os
import re
from dataclasses import dataclass

from tests.paths import ROOT

PAGE = ROOT / "docs/deadlines.md"


@dataclass(frozen=True)
class Wait:
    """``constant`` is a module of virtcpr and a name in it."""

    what: str
    constant: str
    then: str


GROUPS = (
    (
        "Before the blackout: the guests run, the daemon answers",
        (
            Wait(
                "libvirt answers a call; where it waits for a QEMU that hangs, it waits for ever",
                "host.libvirt.connection.CALL_SECONDS",
                "the domain is refused (`unreadable`, exit code 4); the command fails (1) where it is the daemon that "
                "hangs; `upgrade` that has begun fails or rolls back as where libvirt says no",
            ),
            Wait(
                "the installed emulator says what it is", "host.qemu.emulator.SECONDS", "it is no emulator: refused (4)"
            ),
            Wait(
                "the last words of one that has failed, or of a twin",
                "host.qemu.scratch.DYING_SECONDS",
                "the message has none",
            ),
            Wait(
                "the end of a twin is noticed where its monitor was lost",
                "host.qemu.scratch.LEAVING_SECONDS",
                "`unsure`",
            ),
            Wait(
                "the twin of a guest has been handed over; in mode reboot: saved and loaded",
                "actions.rehearsal.rehearse.SECONDS",
                "both of its processes are killed; the rehearsal is `unsure`, the move goes ahead",
            ),
            Wait("the launcher has executed new QEMU", "host.qemu.launch.SECONDS", "it is killed; rolled back (5)"),
            Wait(
                "new QEMU listens on the CPR channel",
                "actions.transfer.new_qemu.READY_SECONDS",
                "it is killed; rolled back (5)",
            ),
            Wait(
                "it dies when it is killed",
                "actions.transfer.new_qemu.END_SECONDS",
                "exit code 6: end that process first",
            ),
            Wait(
                "a guest agent whose channel is open answers a ping",
                "actions.inspect.probe.PING_SECONDS",
                "it isn't expected to answer after the swap either",
            ),
            Wait("the guardian is at its post", "host.processes.guard.READY_SECONDS", "nothing is moved (5)"),
            Wait(
                "package managers have been quiet for a while, before `auto --pending` looks at the guests",
                "host.system.packages.QUIET_SECONDS",
                "it goes on: this long their locks must be free without a break",
            ),
            Wait(
                "they are, in the end",
                "host.system.packages.WAIT_SECONDS",
                "nothing is done, the note stays (0), and the timer tries again two minutes later",
            ),
            Wait(
                "any other program that is run (systemctl show, busctl, sendmail)",
                "host.processes.run.SECONDS",
                "it is killed; its part fails",
            ),
            Wait("libvirt names domains to a shell that completes", "actions.completion.SECONDS", "none is offered"),
        ),
    ),
    (
        "In the blackout: the guests run, the daemon is down",
        (
            Wait(
                "the daemon stops; systemd kills it after 90 s by default",
                "host.libvirt.daemon.STOP_SECONDS",
                "no guest is touched, new QEMUs are killed, the daemon is started again where it has ended: rolled "
                "back (5), and a note where it doesn't start",
            ),
            Wait(
                "the daemon is dead-locked in its own shutdown: all its workers have ended, and nothing of it moves "
                "(libvirt 11.3; it would leave after 30 s)",
                "host.libvirt.deadlock.HUNG_SECONDS",
                "it is killed, and started again like any other",
            ),
            Wait(
                "old QEMU's monitor answers, for each command",
                "actions.transfer.ownership.ANSWER_SECONDS",
                "rolled back (5). One that hangs keeps its guest to itself: where that was being moved, the journal "
                "stays (6), and `virtcpr recover` settles it once it answers",
            ),
            Wait(
                "new QEMU has made its machine and its monitor answers",
                "actions.transfer.handover.START_SECONDS",
                "it is killed; rolled back (5); the guest has run all the time",
            ),
        ),
    ),
    (
        "In the pause",
        (
            Wait(
                "new QEMU has loaded the guest and old has given it up, both together",
                "actions.transfer.ownership.MOVE_SECONDS",
                "new is killed and the guest runs on in old (5): that is how long a new QEMU that hangs can pause it. "
                "It is below the 20 s after which Linux calls a CPU stuck",
            ),
            Wait(
                "each command there, `cont` included",
                "actions.transfer.ownership.ANSWER_SECONDS",
                "before `cont`: rolled back (5). `cont` without an answer: new may run the guest, so old is killed, "
                "and the swap is settled as by `recover`",
            ),
            Wait(
                "old QEMU answers at all, where new has all of the guest and something failed; in `recover`: either",
                "actions.monitor.query.LOOK_SECONDS",
                "it is *silent*, [recovery](recovery.md) decides: old is killed and new runs the guest",
            ),
            Wait(
                "new QEMU dies when it is killed",
                "actions.transfer.ownership.END_SECONDS",
                "old must not run beside it: exit code 6, the journal stays. Old QEMU is waited for in the same way "
                "after the pause",
            ),
            Wait(
                "new QEMU's end is noticed where its monitor was lost",
                "actions.transfer.new_qemu.DYING_SECONDS",
                "the monitor is what failed",
            ),
            Wait(
                "new QEMU says that it has all of a guest whose old QEMU has ended",
                "actions.transfer.new_qemu.LAST_SECONDS",
                "[recovery](recovery.md) decides",
            ),
            Wait(
                "a QEMU that doesn't answer any more is gone: it closes its monitor first",
                "actions.transfer.ownership.DYING_SECONDS",
                "it is alive, and *silent*",
            ),
        ),
    ),
    (
        "After it: the guests run in new QEMU",
        (
            Wait("a monitor is closed", "host.qemu.qmp.CLOSE_SECONDS", "it is left"),
            Wait(
                "new QEMU answers each of the questions that libvirt will ask it",
                "actions.transfer.reconnect_check.ANSWER_SECONDS",
                "libvirt would wait for ever: its record of the domain is held aside (6), the daemon is started",
            ),
            Wait(
                "the daemon starts; tried twice",
                "host.libvirt.daemon.START_SECONDS",
                "exit code 6, how it is started by hand; `virtcpr recover` settles the swap. Nothing is undone",
            ),
            Wait(
                "the daemon answers, and then lists all guests that were moved and live",
                "actions.daemon.reconnect.SECONDS",
                "exit code 6; the guests are left as they are",
            ),
            Wait(
                "a guest agent that answered before answers again",
                "actions.transfer.verify.PING_SECONDS",
                "a warning (`verify`)",
            ),
            Wait(
                "each program in /etc/virtcpr/notify.d ends, when `auto` is through with all guests",
                "host.report.notify_d.SECONDS",
                "it is killed, and that is logged",
            ),
        ),
    ),
    (
        "Mode reboot, save and restore",
        (
            Wait(
                "a guest that was asked to suspend itself rests; in settling, too, where virtcpr died meanwhile",
                "actions.reboot.guest.SUSPEND_SECONDS",
                "rolled back (5). One that suspends itself later stays so: `virsh dompmwakeup`",
            ),
            Wait(
                "the next bytes of the state are on their way between QEMU and the file; the state as a whole has no "
                "deadline",
                "host.qemu.stream.STALL_SECONDS",
                "saving: rolled back (5). Loading: new QEMU is ended, and the state waits (1)",
            ),
            Wait(
                "old QEMU says that it is through, after the last byte; in going back, too",
                "actions.reboot.guest.OVER_SECONDS",
                "rolled back (5); in going back: exit code 6, the guest is paused in old QEMU",
            ),
            Wait(
                "old QEMU stands still once it was told to (SIGSTOP), before it is ended",
                "host.processes.kill_paused.STOP_SECONDS",
                "it goes on, and the guest in it: rolled back (5)",
            ),
            Wait(
                "a QEMU dies when it is killed",
                "actions.reboot.guest.END_SECONDS",
                "exit code 6, the record stays: `virtcpr recover` once it is gone",
            ),
            Wait(
                "libvirt has noticed that, and cleaned up",
                "actions.reboot.guest.GONE_SECONDS",
                "exit code 6, the state is kept: `virtcpr recover`",
            ),
            Wait(
                "libvirt has started the domain again, to wait for its state",
                "host.libvirt.connection.START_SECONDS",
                "what was started is ended, and the state waits (1); exit code 6 where libvirt still is at it",
            ),
            Wait(
                "new QEMU says that it has loaded the state, after the last byte",
                "actions.reboot.restore_guest.OVER_SECONDS",
                "it is ended, and the state waits (1)",
            ),
        ),
    ),
)
HEAD = """# Deadlines

Every wait of virtcpr has a deadline, measured on the monotonic clock: setting the host's clock moves none. The pause
alone is told by QEMU's own stamps; where they can't be right, because the clock was set in it, none is reported. In
brackets the exit code.

Four waits have none. The question whether to go on waits for its answer, and whoever has changed a guest meanwhile
finds it refused. What virtcpr.toml allows in its windows only waits for one. The guardian waits for virtcpr's end;
should virtcpr itself be stopped (SIGSTOP) in the blackout, it waits with it: end virtcpr. And the guardian lets another
virtcpr finish first.

A file that can't be written is an error at once. The journal: up to the point of no return the step that it announces
isn't taken, and the guest runs in old QEMU; after it the swap goes on, for the journal then says `committing`, which
leads recovery to the same verdict as what should have been written. libvirt's record: room for it is set aside before
the guest is touched. The history: a warning.

A guest that shuts itself down or panics before its pause is left alone (shut down: `failed`, exit code 1; else rolled
back); in the instant before its pause it is handed over as it is, and isn't woken; after it the daemon finds it so
when it starts.

This page is generated: `VIRTCPR_GOLDEN=write make unit`.
"""


def value(constant: str) -> float:
    module, _, name = constant.rpartition(".")
    seconds: float = getattr(importlib.import_module(f"virtcpr.{module}"), name)
    return seconds


def page() -> str:
    parts = [HEAD]
    for title, waits in GROUPS:
        parts.append(f"\n## {title}\n\n| waits until | at most | then |\n|---|---|---|\n")
        parts += [f"| {wait.what} | {value(wait.constant):g} s | {wait.then} |\n" for wait in waits]
    return "".join(parts)


def test_the_page_is_the_table() -> None:
    if os.environ.get("VIRTCPR_GOLDEN") == "write":
        PAGE.write_text(page())
    assert PAGE.read_text() == page(), "write it anew: VIRTCPR_GOLDEN=write make unit"


def test_every_deadline_is_in_it() -> None:
    told = {wait.constant for _, waits in GROUPS for wait in waits}
    found = set()
    for path in (ROOT / "virtcpr").rglob("*.py"):
        if "cli" not in path.parts:  # of the display
            module = ".".join(path.relative_to(ROOT / "virtcpr").with_suffix("").parts)
            names = re.findall(r"^([A-Z_]*SECONDS)\b.* = ", path.read_text(), re.MULTILINE)
            found |= {f"{module}.{name}" for name in names}
    assert found == told


def test_a_paused_guest_waits_less_than_its_own_watchdog() -> None:
    """Linux calls a CPU stuck after twice ``kernel.watchdog_thresh``, 10 s."""
    assert value("actions.transfer.ownership.MOVE_SECONDS") + value("actions.monitor.query.LOOK_SECONDS") < 20
