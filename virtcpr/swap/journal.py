"""Who owns a guest: one file a domain, each state written before the action that it announces (DESIGN §4).

On tmpfs and without fsync: it must outlive any process, but when the host dies both QEMUs die with it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

from virtcpr.errors import HostError, Unsettled
from virtcpr.host.lock import RUN_DIR
from virtcpr.plan.steps import State

SCHEMA = 1
SETTLE = "see 'After an interrupted swap' in the README before anything else"


@dataclass(frozen=True)
class Entry:
    """What settling an interrupted swap needs: both processes by number and start time, and where things are."""

    name: str
    uuid: str
    state: State
    old_pid: int
    old_started: str
    new_pid: int | None = None
    new_started: str | None = None
    emulator: str = ""
    monitor: str = ""
    status_path: str = ""
    taps: tuple[tuple[int, int, int], ...] = ()  # descriptor in old, header length, offloads: new changes them


class Journal:
    """The entry of one domain's swap.  Every write replaces the file as a whole."""

    def __init__(self, entry: Entry, directory: Path = RUN_DIR / "journal") -> None:
        self.entry = entry
        self.path = directory / f"{entry.uuid}.json"

    def write(self, state: State, **changes: object) -> None:
        """Announce a state.  Raises HostError where it can't be written: then the action must not be taken."""
        entry = replace(self.entry, state=state, **changes)  # type: ignore[arg-type]
        document = {"schema": SCHEMA, **vars(entry), "state": entry.state.value}
        part = self.path.with_suffix(".part")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "w") as file:
                json.dump(document, file)
            part.replace(self.path)
        except OSError as error:
            raise HostError(f"{entry.name}: the journal {self.path} can't be written: {error.strerror}") from error
        self.entry = entry

    def close(self) -> None:
        """The swap is settled: nothing is left to be known."""
        self.path.unlink(missing_ok=True)


def refuse_unsettled() -> None:
    """Raises Unsettled where an earlier swap was interrupted and nobody has settled it."""
    left = pending()
    if left:
        raise Unsettled(f"an earlier swap of {', '.join(left)} was interrupted and isn't settled", hint=SETTLE)


def pending(directory: Path = RUN_DIR / "journal") -> list[str]:
    """UUIDs of the domains whose swap isn't settled."""
    return sorted(path.stem for path in directory.glob("*.json"))
