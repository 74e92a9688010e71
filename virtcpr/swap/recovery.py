"""``recover``: settle swaps that were interrupted, with the daemon down, and start it again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from virtcpr.errors import HostError
from virtcpr.host import daemon
from virtcpr.host.daemon import DriverLock
from virtcpr.host.lock import Lock
from virtcpr.model import ExitCode, Recovered, RecoverReport, Settled
from virtcpr.swap import aside, journal
from virtcpr.swap.journal import Journal
from virtcpr.swap.settlement import Settlement


def recover(
    names: tuple[str, ...], *, dry_run: bool = False, start_daemon: bool = True, wait: bool = False
) -> RecoverReport:
    """Settle the swaps of these domains (names or UUIDs), of all where none is named.

    The daemon is stopped for it, and started afterwards unless ``start_daemon`` is False, as in libvirt's own hook.
    Another virtcpr at work is waited for with ``wait``.
    Afterwards each guest has one owner at most, and libvirt's record names it.  Raises HostError where the host isn't
    as it must be; what becomes of one domain never keeps another from being settled.
    """
    if os.geteuid() != 0:
        raise HostError("only root can settle swaps", hint="run it with sudo")
    with Lock(wait=wait):
        found, failed, others = _chosen(names)
        if others and not dry_run and not _daemon_runs():
            raise HostError(
                f"{', '.join(others)}: these swaps were interrupted, too, and libvirt's daemon must not start before "
                "they are settled; nothing was done",
                hint="virtcpr recover --all",
            )
        left = aside.left(names)
        if dry_run:
            looked = asyncio.run(_all(found, dry_run=True))
            waiting = (Recovered(name, "", "", "", "", Settled.PENDING, "libvirt's record is held") for name in left)
            return _report((*failed, *looked, *waiting), dry_run=True)
        if not found and not left:
            return _report(tuple(failed if _daemon_runs() else aside.hold_all(failed)))
        with _daemon_stopped(found, start=start_daemon):
            settled = asyncio.run(_all(found, dry_run=False))
            settled += [asyncio.run(aside.give_back(name)) for name in left]
            failed = aside.hold_all(failed)
        return _report((*failed, *settled))


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
    try:
        daemon.running()
    except HostError:
        return False
    return True


def _report(domains: tuple[Recovered, ...], *, dry_run: bool = False) -> RecoverReport:
    ends = {domain.settled for domain in domains}
    code = ExitCode.DONE
    if not dry_run:
        code = ExitCode.FAILED if Settled.LOST in ends else code
        code = ExitCode.UNKNOWN if Settled.UNKNOWN in ends else code
    return RecoverReport(domains, code, dry_run=dry_run)


@contextmanager
def _daemon_stopped(found: list[Journal], *, start: bool) -> Iterator[None]:
    """Stop the daemon if it runs; hold the driver's lock meanwhile; start what ran, or what the journal says."""
    recipe = next((one.entry.daemon for one in found if one.entry.daemon), None)
    try:
        running = daemon.running()
    except HostError:
        running = None
    try:
        if running is not None:
            recipe = running.recipe
            running.stop()
        with DriverLock():
            yield
    finally:
        if start and recipe is not None:
            _start(recipe)


def _start(recipe: Mapping[str, object]) -> None:
    try:
        daemon.from_recipe(recipe).start()
    except HostError as error:
        raise HostError(f"{error.message}; every swap that could be settled is settled", hint=error.hint) from error


async def _all(found: list[Journal], *, dry_run: bool) -> list[Recovered]:
    return await asyncio.gather(*(Settlement(one).run(dry_run=dry_run) for one in found))
