"""What made restored domains wait for their state, taken out of libvirt's records: before the daemon reads them.

A note a domain, `/run/virtcpr/leftovers/UUID.json`: it needn't outlive the host, as the record in question doesn't.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from virtcpr.actions.reboot import stillborn
from virtcpr.actions.records.saves import Saved
from virtcpr.domain import restart
from virtcpr.domain.status import read
from virtcpr.errors import HostError, ParseError
from virtcpr.host.files.atomic import read_text, replace_durably, write_private
from virtcpr.host.processes.proc import ticks_since_boot
from virtcpr.host.system.lock import RUN_DIR

log = logging.getLogger(__name__)

DIRECTORY = RUN_DIR / "leftovers"  # known to hooks/libvirt-daemon, too


@dataclass(frozen=True)
class Note:
    """``taints`` are those that the domain had before; ``ram`` is where libvirt makes directories for guests' RAM, if
    this one's lies there; ``since``: when it was made, in ticks since the host booted, as proc(5) has starts."""

    uuid: str
    name: str
    status_path: str
    taints: tuple[str, ...]
    sleeps: bool = False
    ram: str = ""
    since: int = 0


def note(saved: Saved) -> None:
    """Before the domain is started with more than it is to keep.  Raises HostError."""
    kept = next((Path(file.kept).parent.parent for file in saved.ram if file.linked), "")
    document = {
        "uuid": saved.uuid,
        "name": saved.name,
        "status_path": saved.status_path,
        "taints": list(saved.taints),
        "sleeps": saved.sleeps,
        "ram": str(kept),
        "since": ticks_since_boot(),
    }
    write_private(DIRECTORY / f"{saved.uuid}.json", json.dumps(document))


def noted() -> list[Note]:
    """Every note.  One that can't be understood is left out, with a warning."""
    found = []
    with suppress(FileNotFoundError):
        for entry in sorted(os.listdir(DIRECTORY)):
            if not entry.endswith(".json"):
                continue
            try:
                document = json.loads(read_text(DIRECTORY / entry))
                found.append(Note(**{**document, "taints": tuple(document["taints"])}))
            except (HostError, ValueError, KeyError, TypeError) as error:
                log.warning("%s: %s", DIRECTORY / entry, error)
    return found


def strip(notes: list[Note]) -> list[str]:
    """Take it out of libvirt's status files; the daemon must be down.  What could not be done, as texts.

    Of a start that the daemon died in nothing is kept.
    """
    problems = []
    for one in notes:
        path = Path(one.status_path)
        try:
            if path.exists():
                text = read_text(path)
                status = read(text)
                ours = status.uuid == one.uuid and restart.waits(text)
                if ours and status.pid == 0:
                    stillborn.bury(one, status)
                elif ours:
                    replace_durably(path, restart.stripped(text, one.taints, sleeps=one.sleeps))
            drop(one)
        except (HostError, ParseError, OSError, ValueError) as error:
            problems.append(f"{one.name}: libvirt's record still has '-incoming defer': {error}")
    return problems


def drop(one: Note | Saved) -> None:
    with suppress(OSError):
        (DIRECTORY / f"{one.uuid}.json").unlink(missing_ok=True)
