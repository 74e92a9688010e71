"""Keep the builds that guests are moved away from, as long as the configuration says."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from virtcpr.actions.records import saves
from virtcpr.actions.records.batch import current
from virtcpr.actions.records.configuration import configured
from virtcpr.domain.facts import DomainFacts
from virtcpr.errors import VirtcprError
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu import kept
from virtcpr.host.system.paths import PATHS, SYSTEM
from virtcpr.plan.undo import surplus

log = logging.getLogger(__name__)


def wanted() -> bool:
    """Whether the configuration has builds kept.  Raises HostError and ParseError."""
    return configured().keep_builds > 0


def keep(domains: Iterable[DomainFacts]) -> tuple[str, ...]:
    """Keep what these guests run in, and remove what is kept for too long; returns what could not be done.

    Nothing is kept by `undo`.  Raises nothing: a guest can be moved without a way back.
    """
    if current().undoes is not None:
        return ()
    try:
        rules = configured()
    except VirtcprError as error:
        return (f"{error.message}: no build of QEMU is kept for 'virtcpr undo'",)
    if not rules.keep_builds:
        return ()
    left: dict[str, list[DomainFacts]] = {}
    for facts in domains:
        if facts.process is not None:
            left.setdefault(facts.process.build, []).append(facts)
    problems = tuple(filter(None, map(_keep, left.values())))
    purge(rules.keep_builds, rules.keep_days, left.keys())
    return problems


def purge(most: int, days: int, leaving: Collection[str] = ()) -> None:
    """Remove what is more than ``most`` builds, or older than ``days``.  A failure is only logged.

    What a process runs, what a saved guest is to be restored in, and what guests are ``leaving``, stays.
    """
    kept.remove_halves()
    try:
        needed = kept.running() | _of_saved_guests()
    except VirtcprError as error:  # what is needed isn't known
        log.warning("%s", error.message)
        return
    builds = kept.builds()
    known = [(one.build, _seconds(one.kept_at), one.program in needed or one.build in leaving) for one in builds]
    going = surplus(known, most, days, time.time())
    for one in builds:
        if one.build in going:
            try:
                kept.remove(one)
            except VirtcprError as error:
                log.warning("%s", error.message)


def _of_saved_guests() -> frozenset[str]:
    """The emulators that their records name.  Raises HostError and ParseError."""
    if PATHS is not SYSTEM:  # a user's own are never saved
        return frozenset()
    records = [record.saved for record in saves.readable()]
    return frozenset(path for saved in records for path in (saved.emulator, saved.live.emulator) if path)


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _keep(alike: Sequence[DomainFacts]) -> str | None:
    """Why the build of these guests can't be kept."""
    process, qemu = alike[0].process, alike[0].qemu
    assert process is not None
    assert qemu is not None
    processes = [Process(facts.process.pid, facts.process.started) for facts in alike if facts.process]
    try:
        kept.keep(processes, process.build, qemu.version, qemu.package)
    except VirtcprError as error:
        return f"{error.message}: there is no way back to it by 'virtcpr undo'"
    except OSError as error:  # a guest ended
        return f"QEMU {qemu.version} can't be kept: {error.strerror}; there is no way back to it"
    return None
