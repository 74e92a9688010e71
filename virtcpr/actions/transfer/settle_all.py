"""Swaps that were interrupted: settled with libvirt's daemon down, which is started again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from virtcpr.actions.records import journal, quarantine
from virtcpr.actions.records.journal import Journal
from virtcpr.actions.transfer import settle_quarantined
from virtcpr.actions.transfer.settle import Settlement
from virtcpr.errors import HostError
from virtcpr.host.libvirt import daemon
from virtcpr.host.libvirt.daemon import Daemon, DriverLock
from virtcpr.host.processes import guard
from virtcpr.host.processes.guard import Guard
from virtcpr.host.processes.interrupt import Interrupt
from virtcpr.model import Recovered, Settled

log = logging.getLogger(__name__)


def settle(names: tuple[str, ...], *, dry_run: bool, start_daemon: bool, guarded: bool) -> tuple[Recovered, ...]:
    """Settle the swaps of these domains (names or UUIDs), of all where none is named; the host's lock is held.

    The daemon is stopped for it, and started afterwards where ``start_daemon``; with ``guarded`` also where this
    process is killed.  Raises HostError where the host isn't as it must be; what becomes of one domain never keeps
    another from being settled.
    """
    found, failed, others = _chosen(names)
    if others and not dry_run and not _daemon_runs():
        raise HostError(
            f"{', '.join(others)}: these swaps were interrupted, too, and libvirt's daemon must not start before "
            "they are settled; nothing was done",
            hint="virtcpr recover --all",
        )
    left, hooked = settle_quarantined.left(names), quarantine.refuses()
    if dry_run:
        looked = asyncio.run(_all(found, dry_run=True))
        waiting = (Recovered(name, "", "", "", "", Settled.PENDING, "libvirt's record is held") for name in left)
        return (*failed, *looked, *waiting)
    if not found and not left:
        return tuple(failed if _daemon_runs() else settle_quarantined.hold_all(failed))
    # A signal must not end it half done: with the daemon's start libvirt takes whichever process answers.
    with Interrupt(), _daemon_stopped(found, start=start_daemon, guarded=start_daemon and guarded):
        failed = settle_quarantined.hold_all(failed)
        settled = asyncio.run(_all(found, dry_run=False))
        settled += [asyncio.run(settle_quarantined.give_back(name)) for name in left]
    settled = [*failed, *settled]
    if not start_daemon and not hooked:
        settled = [_unhooked(one) for one in settled]
    return tuple(settled)


def _unhooked(outcome: Recovered) -> Recovered:
    """libvirt looks which hooks there are before it calls that for the daemon's start (virHookInitialize)."""
    if outcome.settled is not Settled.UNKNOWN:
        return outcome
    return replace(outcome, text=f"{outcome.text}; the hook that refuses it works from the daemon's next start on only")


def _chosen(names: tuple[str, ...]) -> tuple[list[Journal], list[Recovered], list[str]]:
    """The journals of these domains, what is to be said of those that can't be read, and the other domains' names."""
    found, failed, others = [], [], []
    for uuid in journal.pending():
        try:
            one = journal.load(uuid)
        except HostError as error:
            failed.append(Recovered("", uuid, "", "", "", Settled.UNKNOWN, error.message))
            continue
        if not names or uuid in names or one.entry.name in names:
            found.append(one)
        else:
            others.append(one.entry.name)
    return found, failed, others


def _daemon_runs() -> bool:
    return _running() is not None


@contextmanager
def _daemon_stopped(found: list[Journal], *, start: bool, guarded: bool) -> Iterator[None]:
    """Stop the daemon if it runs; hold the driver's lock meanwhile; start what ran, or what the journal says.

    With ``guarded`` the guardian does that, and settles the rest, where this process is killed.
    """
    recipe = next((one.entry.daemon for one in found if one.entry.daemon), None)
    watch: Guard | None = None
    said = "no swap was settled"
    try:
        with ExitStack() as held_back:
            # A daemon that is just starting has no lock yet when it is looked for: it is stopped when it has.
            for last in (False, True) if start else (True,):
                running = _running()
                recipe = recipe if running is None else running.recipe
                if guarded and watch is None and recipe is not None:
                    watch = _armed(recipe)
                if running is not None:
                    running.stop()
                if _locked(held_back, last=last):
                    break
            yield
        said = "every swap that could be settled is settled"
    finally:
        try:
            if start and recipe is not None:
                _start(recipe, said)
        finally:
            if watch is not None:
                watch.disarm()


def _running() -> Daemon | None:
    try:
        return daemon.running()
    except HostError:
        return None


def _locked(held_back: ExitStack, *, last: bool) -> bool:
    """Whether the daemon is kept out now, until ``held_back`` is left.  Raises HostError at the last attempt."""
    try:
        held_back.enter_context(DriverLock())
    except HostError:
        if last:
            raise
        return False
    return True


def _armed(recipe: Mapping[str, object]) -> Guard | None:
    """A guardian, if one can be had: settling a swap is worth more."""
    try:
        return guard.arm(recipe)
    except HostError as error:
        log.warning("%s", error.message)
        return None


def _start(recipe: Mapping[str, object], said: str) -> None:
    try:
        daemon.from_recipe(recipe).start()
    except HostError as error:
        raise HostError(f"{error.message}; {said}", hint=error.hint) from error


async def _all(found: list[Journal], *, dry_run: bool) -> list[Recovered]:
    return await asyncio.gather(*(Settlement(one).run(dry_run=dry_run) for one in found))
