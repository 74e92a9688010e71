"""Settle interrupted swaps while libvirt's daemon is down, then start it again."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from virtcpr.actions.daemon import blackout
from virtcpr.actions.daemon.blackout import DaemonDown
from virtcpr.actions.records import journal, moved, quarantine
from virtcpr.actions.records.batch import Batch
from virtcpr.actions.records.journal import Journal
from virtcpr.actions.transfer import settle_quarantined
from virtcpr.actions.transfer.settle import Settlement
from virtcpr.errors import HostError
from virtcpr.host.libvirt import daemon
from virtcpr.host.processes.descriptors import allow
from virtcpr.model import Mode, Recovered, Settled, Side
from virtcpr.plan.batch.descriptors import needed_to_settle
from virtcpr.plan.steps import State

log = logging.getLogger(__name__)

HELD = "libvirt's record is held"


def settle_all(names: tuple[str, ...], *, dry_run: bool, start_daemon: bool, guarded: bool) -> tuple[Recovered, ...]:
    """Settle the swaps of these domains (names or UUIDs), or of all if none is named; the host's lock is held.

    The daemon is stopped first, unless it never was, and started afterwards if ``start_daemon``; with ``guarded`` also
    if this process is killed. Raises HostError if the host isn't ready; a failure of one domain never keeps another
    from being settled.
    """
    journals, failed, others = _chosen(names)
    allow(needed_to_settle(len(journals)))
    if others and not dry_run and not daemon_runs():
        raise HostError(
            f"{', '.join(others)}: these swaps were interrupted, too, and libvirt's daemon must not start before "
            "they are settled; nothing was done",
            hint="virtcpr recover --all",
        )
    left, hooked = _left(names, dry_run=dry_run), quarantine.refuses()
    if dry_run:
        looked = asyncio.run(_all(journals, dry_run=True))
        waiting = (Recovered(name, uuid, "", "", "", Settled.PENDING, HELD) for uuid, name in left.items())
        return (*failed, *looked, *waiting)
    if not journals and not left:
        return tuple(failed if daemon_runs() else settle_quarantined.hold_all(failed))
    if start_daemon and not left and not failed and _before_blackout(journals):
        ended = [Settlement(record).end_spawned() for record in journals]
        _note(journals, ended)
        return tuple(ended)
    recipe = next((record.entry.daemon for record in journals if record.entry.daemon), None)
    result = "no swap was settled"
    try:
        with blackout.daemon_away(recipe, guardian=start_daemon and guarded, restart=start_daemon, insist=start_daemon):
            failed = settle_quarantined.hold_all(failed)
            settled = asyncio.run(_all(journals, dry_run=False))
            _note(journals, settled)
            settled += [asyncio.run(settle_quarantined.give_back(*domain)) for domain in left.items()]
            result = "every swap that could be settled is settled"
    except DaemonDown as error:
        raise HostError(f"{error.message}; {result}", hint=error.hint) from error
    settled = [*failed, *settled]
    if not start_daemon and not hooked:
        settled = [_unhooked(outcome) for outcome in settled]
    return tuple(settled)


def _left(names: tuple[str, ...], *, dry_run: bool) -> dict[str, str]:
    """UUID → name of the domains whose record is held without a journal.  The others are settled in any case."""
    try:
        if not dry_run:
            quarantine.tidy()
        return settle_quarantined.left(names)
    except HostError as error:
        log.warning("%s", error.message)
        return {}


def _note(journals: list[Journal], settled: list[Recovered]) -> None:
    """Into the history, also if the daemon doesn't start afterwards."""
    entries = {record.entry.uuid: record.entry for record in journals}
    for outcome in settled:
        if entry := entries.get(outcome.uuid):
            mode = Mode.LIVE if entry.guest.copied else Mode.TRANSFER
            source = Side(entry.source, build=entry.source_build) if entry.source else None
            target = Side(entry.target, build=entry.target_build) if entry.target else None
            batch = None if entry.batch is None else Batch(entry.batch, entry.undoes)
            moved.note_settled(outcome, mode, source, target, batch)


def _unhooked(outcome: Recovered) -> Recovered:
    """libvirt looks for its hooks before it calls the daemon's start hook (virHookInitialize)."""
    if outcome.settled is not Settled.UNKNOWN:
        return outcome
    return replace(
        outcome, text=f"{outcome.text}; the hook that refuses a second start works only from the daemon's next start on"
    )


def _chosen(names: tuple[str, ...]) -> tuple[list[Journal], list[Recovered], list[str]]:
    """The journals of these domains, the results of those that can't be read, and the other domains' names."""
    journals, failed, others = [], [], []
    for uuid in journal.pending():
        try:
            record = journal.load(uuid)
        except HostError as error:
            failed.append(Recovered("", uuid, "", "", "", Settled.UNKNOWN, error.message))
            continue
        if not names or uuid in names or record.entry.name in names:
            journals.append(record)
        else:
            others.append(record.entry.name)
    return journals, failed, others


def daemon_runs() -> bool:
    """Whether libvirt's QEMU driver runs."""
    try:
        daemon.running()
    except HostError:
        return False
    return True


def _before_blackout(journals: list[Journal]) -> bool:
    """Whether virtcpr died before it told old QEMU anything: the daemon needn't be stopped, which would cancel the jobs
    of all domains."""
    return all(record.entry.state is State.PLANNED for record in journals) and daemon_runs()


async def _all(journals: list[Journal], *, dry_run: bool) -> list[Recovered]:
    return await asyncio.gather(*(Settlement(record).run(dry_run=dry_run) for record in journals))
