"""What ``recover`` does with libvirt's records that are held, or must be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shlex import quote

from virtcpr.actions.records import journal, quarantine
from virtcpr.actions.transfer import reconnect_check
from virtcpr.domain import status
from virtcpr.domain.sockets import beside
from virtcpr.errors import HostError, VirtcprError
from virtcpr.host.libvirt import daemon
from virtcpr.host.processes.proc import Process
from virtcpr.host.processes.sockets import holders
from virtcpr.model import Recovered, Settled
from virtcpr.plan import reconnect
from virtcpr.plan.guest import Guest


def hold(outcome: Recovered, record: Path) -> Recovered:
    """Hold the record of a domain that couldn't be settled, and say so; the daemon is down.  Raises nothing."""
    try:
        result = quarantine.hold(outcome.uuid, record)
    except HostError as error:
        result = error.message
    again = f"'virtcpr recover {quote(record.stem)}' looks again"
    return replace(outcome, name=record.stem, text=f"{outcome.text}; {result}; {again}")


def hold_all(failed: list[Recovered]) -> list[Recovered]:
    """Hold the record of each domain whose journal can't be read: libvirt must not take whichever process answers."""
    return [_hold_unread(outcome) for outcome in failed]


def _hold_unread(outcome: Recovered) -> Recovered:
    name = quarantine.name_of(outcome.uuid, daemon.STATE_DIR) or _held().get(outcome.uuid)
    return outcome if name is None else hold(outcome, _record(name))


def _held() -> dict[str, str]:
    try:
        return quarantine.held()
    except HostError:
        return {}


def _record(name: str) -> Path:
    return daemon.STATE_DIR / f"{name}.xml"


def left(names: tuple[str, ...]) -> dict[str, str]:
    """Domains whose record is held without a journal, UUID → name: somebody removed a journal that couldn't be read.

    ``names``: names or UUIDs; all if empty.  Raises HostError if the records can't be seen.
    """
    waiting = set(journal.pending())
    return {
        uuid: name
        for uuid, name in quarantine.held().items()
        if uuid not in waiting and (not names or uuid in names or name in names)
    }


async def give_back(uuid: str, name: str) -> Recovered:
    """Without a journal only the record says which process has the guest.  libvirt gets the record back if it would
    take that process, or if that has ended, to clean up; never if another process might answer.  Raises nothing."""
    outcome = Recovered(name, uuid, "", "", "", Settled.UNKNOWN, "")
    try:
        record = status.read(quarantine.text(uuid))
        quarantine.put_back(uuid, _record(name))
        guest = Guest.of(record, str(_record(name)))
        others = holders(guest.monitor, beside(guest.monitor)) - {record.pid}
        if others:
            raise HostError(f"another process than libvirt's record names may have the guest: {sorted(others)}")
        try:
            process = Process.of(record.pid)
        except HostError:
            return replace(outcome, settled=Settled.NOTHING, text="the guest has ended; libvirt has its record again")
        problems = await reconnect_check.second(guest, process, None)
        if any(problem.kills for problem in problems):
            raise HostError(f"libvirt would kill the guest: {reconnect.words(problems)}")
    except (VirtcprError, ValueError) as error:
        return hold(replace(outcome, text=str(error)), _record(name))
    return replace(outcome, settled=Settled.NOTHING, text=f"libvirt has its record again (process {process.pid})")
