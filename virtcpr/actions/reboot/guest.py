"""What saving, restoring and settling do with one guest: wait for it, give it back, drop what was saved of it."""

from __future__ import annotations

from collections.abc import Mapping

from virtcpr.actions.monitor.query import NOT_DONE
from virtcpr.actions.records.saves import Record
from virtcpr.domain import qmp
from virtcpr.errors import HostError
from virtcpr.host.files import ram_files
from virtcpr.host.libvirt.connection import Domain
from virtcpr.host.processes import kill_paused
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.qmp import MIGRATION_ENDS
from virtcpr.host.system.wait import wait_until

SUSPEND_SECONDS = 60.0  # a guest has much to put to sleep
END_SECONDS = 30.0
GONE_SECONDS = 60.0  # libvirt cleans up after a process: networks, cgroups, hooks
OVER_SECONDS = 10.0  # between the last byte and QEMU's report
POLL = 0.005  # s between two looks
BANDWIDTH = 128 << 20


def go_back(domain: Domain, record: Record) -> str:
    """Resume the guest in its old process, as before its save; remove record and file.  Returns what it does now.

    If QEMU was never set up for the save, whoever stopped the guest wasn't virtcpr, and may run it elsewhere.
    libvirt resumes it, so that libvirt knows.  Raises HostError if it doesn't resume; the record stays then.
    """
    saved = record.saved
    kill_paused.go_on(Process(saved.old_pid, saved.old_started))
    armed = qmp.text(qmp.obj(domain.monitor("query-migrate-parameters")).get("mode")) == "cpr-reboot"
    if armed and _status(domain) not in ("", "none", "failing", *MIGRATION_ENDS):  # else it isn't ours
        domain.monitor("migrate_cancel")
    state = _rest(domain)
    if armed and saved.runs and state in ("postmigrate", "paused"):
        try:
            domain.resume()
        except HostError:  # libvirt may not know yet that it is paused
            domain.monitor("cont")
        state = _rest(domain)
        if state in ("postmigrate", "paused"):
            raise HostError(f"it is {state} and doesn't resume")
    if saved.asked and state == "running" and asleep(domain):
        state = "suspended"
    if saved.wake and state == "suspended":
        domain.wake_up()
        state = _rest(domain)
    done = not armed or restore_settings(domain, return_path=saved.return_path)
    forget_saved(record)
    does = "runs on" if state == "running" else f"is stopped ({state})" if saved.runs else "is suspended as before"
    return does if done else f"{does} ({NOT_DONE})"


def asleep(domain: Domain) -> bool:
    """Wait until the guest has suspended itself, as asked.  Returns whether it did so in time."""
    # libvirt's event may come before QEMU is suspended
    return wait_until(lambda: run_state(domain) == "suspended", SUSPEND_SECONDS, poll=POLL)


def restore_settings(domain: Domain, *, return_path: bool) -> bool:
    """Set QEMU as libvirt expects it: with mode left at cpr-reboot and RAM ignored, a save would lose RAM.

    The mode comes last, as it tells that something is to be put back.  Returns False, and sets nothing, if QEMU isn't
    done with its migration in time.  Raises HostError.
    """
    if not wait_until(lambda: not is_migrating(domain), OVER_SECONDS, poll=POLL):
        return False
    set_capabilities(domain, {"x-ignore-shared": False, "return-path": return_path, "events": True})
    domain.monitor("migrate-set-parameters", {"mode": "normal", "max-bandwidth": BANDWIDTH})
    return True


def is_migrating(domain: Domain) -> bool:
    """Whether a migration is under way, or QEMU isn't done with the last one."""
    return _status(domain) not in ("", "none", *MIGRATION_ENDS) or qmp.cleans_up(domain.monitor("query-yank"))


def _status(domain: Domain) -> str:
    """Of its last migration."""
    return qmp.text(qmp.obj(domain.monitor("query-migrate")).get("status"))


def set_capabilities(domain: Domain, wanted: Mapping[str, bool]) -> None:
    listed = [{"capability": name, "state": state} for name, state in wanted.items()]
    domain.monitor("migrate-set-capabilities", {"capabilities": listed})


def forget_saved(record: Record) -> None:
    """Remove what was saved: the record, the file, and the second names of RAM files."""
    for file in record.saved.ram:
        if file.linked:
            ram_files.forget(file.kept)
    record.remove()


def await_gone(domain: Domain, process: Process) -> None:
    """Wait until libvirt has noticed the end of a domain's process, and cleaned up.  Raises HostError."""
    if not process.goes(END_SECONDS):
        raise HostError(f"{domain.name}: QEMU (process {process.pid}) doesn't end")
    if not wait_until(lambda: not domain.active(), GONE_SECONDS, poll=POLL):
        raise HostError(f"{domain.name}: libvirt didn't notice within {GONE_SECONDS:g} s that its QEMU is gone")


def _rest(domain: Domain) -> str:
    """The run state, once it is no longer finish-migrate."""
    state = wait_until(lambda: run_state(domain), OVER_SECONDS, until=lambda now: now != "finish-migrate", poll=POLL)
    if state == "finish-migrate":
        raise HostError(f"{domain.name} doesn't finish its migration")
    return state


def migration(domain: Domain, seconds: float) -> tuple[str, str]:
    """How QEMU's migration ended, one of ``MIGRATION_ENDS``, and why, in QEMU's words.

    The first is another status, or empty, if it didn't end within ``seconds``.
    """

    def look() -> tuple[str, str]:
        answer = qmp.obj(domain.monitor("query-migrate"))
        return qmp.text(answer.get("status")), qmp.text(answer.get("error-desc"))

    return wait_until(look, seconds, until=lambda seen: seen[0] in MIGRATION_ENDS, poll=POLL)


def run_state(domain: Domain) -> str:
    return qmp.text(qmp.obj(domain.monitor("query-status")).get("status"))
