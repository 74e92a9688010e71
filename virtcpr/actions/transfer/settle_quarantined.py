"""What ``recover`` does about records of libvirt's that are held, or have to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from virtcpr.actions.records import journal, quarantine
from virtcpr.actions.transfer import reconnect_check
from virtcpr.domain import status
from virtcpr.errors import HostError, VirtcprError
from virtcpr.host.libvirt import daemon
from virtcpr.host.processes.proc import Process, holders
from virtcpr.model import Recovered, Settled
from virtcpr.plan import reconnect
from virtcpr.plan.guest import Guest


def hold(outcome: Recovered, record: Path) -> Recovered:
    """Hold the record of a domain that couldn't be settled, and say so; the daemon is down.  Raises nothing."""
    try:
        said = quarantine.hold(record)
    except HostError as error:
        said = error.message
    again = f"'virtcpr recover {record.stem}' looks again"
    return replace(outcome, name=record.stem, text=f"{outcome.text}; {said}; {again}")


def hold_all(failed: list[Recovered]) -> list[Recovered]:
    """Domains whose journal can't be read: libvirt must not take whichever process answers."""
    return [_hold_unread(one) for one in failed]


def _hold_unread(outcome: Recovered) -> Recovered:
    name = quarantine.name_of(outcome.uuid, daemon.STATE_DIR) or quarantine.name_of(outcome.uuid, quarantine.DIRECTORY)
    return outcome if name is None else hold(outcome, _record(name))


def _record(name: str) -> Path:
    return daemon.STATE_DIR / f"{name}.xml"


def left(names: tuple[str, ...]) -> list[str]:
    """Domains whose record is held without a journal: somebody removed one that couldn't be read."""
    known = {_name(uuid) for uuid in journal.pending()}
    return [name for name in quarantine.names() if name not in known and (not names or name in names)]


def _name(uuid: str) -> str | None:
    try:
        return journal.load(uuid).entry.name
    except HostError:
        return quarantine.name_of(uuid, quarantine.DIRECTORY)


async def give_back(name: str) -> Recovered:
    """Without a journal only the record says who has the guest: libvirt gets it back where it would take that process,
    or where it has ended, so that it cleans up; never while another process might answer.  Raises nothing."""
    outcome = Recovered(name, "", "", "", "", Settled.UNKNOWN, "")
    try:
        record = status.read(quarantine.text(name))
        outcome = replace(outcome, uuid=record.uuid)
        quarantine.put_back(_record(name))
        guest = Guest.of(record, str(_record(name)))
        others = holders(guest.monitor) - {record.pid}
        if others:
            raise HostError(f"another process than libvirt's record names may have the guest: {sorted(others)}")
        try:
            process = Process.of(record.pid)
        except HostError:
            return replace(outcome, settled=Settled.NOTHING, text="the guest has ended; libvirt has its record again")
        found = await reconnect_check.second(guest, process, None)
        if any(one.kills for one in found):
            raise HostError(f"libvirt would kill it: {reconnect.words(found)}")
    except (VirtcprError, ValueError) as error:
        return hold(replace(outcome, text=str(error)), _record(name))
    return replace(outcome, settled=Settled.NOTHING, text=f"libvirt has its record again (process {process.pid})")
