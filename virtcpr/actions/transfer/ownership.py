"""Give a guest to one of its two processes: used by a swap, and by recovery after an interrupted swap."""

from __future__ import annotations

from virtcpr.actions.monitor import precopy
from virtcpr.actions.monitor.query import NOT_DONE, run_state, set_capabilities
from virtcpr.actions.transfer.resources import helpers
from virtcpr.domain import qmp
from virtcpr.errors import HostError
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.qmp import MIGRATION_ENDS, Qmp
from virtcpr.host.system.wait_async import wait_until_async
from virtcpr.plan.guest import Guest

ANSWER_SECONDS = 10.0  # per monitor command
MOVE_SECONDS = 10.0  # the guest's device state: the guest is paused, and its own watchdogs fire after some 20 s
END_SECONDS = 30.0
# A process that is killed closes its monitor, and is still alive for a moment: wait before judging which is gone.
DYING_SECONDS = 1.0


async def resume_old(guest: Guest, old: Qmp, *, reset: bool = False, moved: bool = True) -> str:
    """Have no migration under way in old QEMU, and its guest running if it ran; ``put_settings_back`` does the rest.

    QEMU resumes by itself when a migration fails, but not after a completed one (migration/migration.c).  ``reset``
    resets the guest, which leaves it in ``prelaunch`` (main_loop_should_exit(), system/runstate.c), also if this is
    done again.  If it was never ``moved``, a paused guest was paused by its user, and stays paused.  Returns what the
    guest does now.  Raises HostError if it doesn't resume.
    """
    status = qmp.text(qmp.obj(await old.execute("query-migrate")).get("status"))
    if status not in ("", "none", *MIGRATION_ENDS):
        if status != "failing":  # since QEMU 11: about to be `failed`
            await old.execute("migrate_cancel")
        await _until_over(old)
    resting = await _rest(old)
    if reset:
        await old.execute("system_reset")
    ours = {"postmigrate", *(["paused"] if moved else []), *(["prelaunch"] if reset else [])}
    if guest.runs and resting in ours:  # a guest that stopped for another reason stays stopped
        await old.execute("cont")
    state = await _rest(old)
    if guest.runs and state in ours:
        raise HostError(f"{old.name} is {state} and doesn't resume")
    if state == "running":  # its user may have resumed it
        return "runs on"
    return f"is stopped ({state})" if guest.runs else "is suspended as before"


async def put_settings_back(guest: Guest, old: Qmp) -> str:
    """After ``resume_old``, and once old has its ports: mode and capabilities as found.

    As long as old has others in place of the ports on which it listens, its main loop is busy with them alone, and
    QEMU doesn't come to its clean-up (idle sources of GLib).  Returns what isn't put back, to be said of the guest, or
    nothing.  Raises QmpError.
    """
    if not await _cleaned_up(old):
        return f" ({NOT_DONE})"
    await old.execute("migrate-set-parameters", {"mode": "normal"})
    await set_capabilities(old, {"return-path": guest.return_path})
    if guest.copied:
        await precopy.put_back(old, guest.limits)
    return ""


async def _until_over(old: Qmp) -> None:
    """Wait until a cancelled migration is over.  By polling: its events may have gone to another client."""

    async def over() -> bool:
        answer = qmp.obj(await old.execute("query-migrate"))
        return qmp.text(answer.get("status")) in MIGRATION_ENDS

    if not await wait_until_async(over, MOVE_SECONDS):
        raise HostError(f"{old.name} doesn't end its migration")


async def _cleaned_up(old: Qmp) -> bool:
    """Wait until no settings of old's are needed for a migration that is over.  Returns whether it is so in time."""

    async def done() -> bool:
        return not qmp.cleans_up(await old.execute("query-yank"))

    return await wait_until_async(done, MOVE_SECONDS)


async def _rest(old: Qmp) -> str:
    """The run state after finish-migrate: the end of the migration would undo a ``cont`` before it."""
    # QEMU sends no event for this change.
    state = await wait_until_async(lambda: run_state(old), ANSWER_SECONDS, until=lambda now: now != "finish-migrate")
    if state == "finish-migrate":
        raise HostError(f"{old.name} doesn't finish its migration")
    return state


async def run_new(guest: Guest, new: Qmp) -> None:
    """With old dead, new is the only owner: if ``cont`` got lost, send it again."""
    if guest.runs and await run_state(new) == "paused":
        await new.execute("cont")
    if guest.copied:
        await precopy.settle(new)


def end_old(guest: Guest, old: Process) -> None:
    """Kill old: a graceful exit would unlink the sockets, and with discard-data wipe the RAM.  Raises HostError.

    Afterwards it runs nothing any more.  A big guest's process is there for seconds still: nobody waits for that, as
    new has its images and nothing of old's is written on (it was at rest).
    """
    helpers.hand_over(guest.helpers)
    if not old.kill(END_SECONDS, gone=False):
        raise HostError(f"old QEMU (process {old.pid}) can't be killed")
