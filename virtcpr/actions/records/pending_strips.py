"""Notes of domains started with ``-incoming defer``, so that this is removed from libvirt's records later.

One note per domain, `/run/virtcpr/leftovers/UUID.json`.  Like libvirt's record, it is lost when the host reboots.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from virtcpr.actions.records import document
from virtcpr.actions.records.saves import Saved
from virtcpr.errors import HostError
from virtcpr.host.files.atomic import write_private
from virtcpr.host.processes.proc import ticks_since_boot
from virtcpr.host.system.lock import RUN_DIR

log = logging.getLogger(__name__)
DIRECTORY = RUN_DIR / "leftovers"  # known to hooks/libvirt-daemon, too


@dataclass(frozen=True)
class Note:
    """``taints``: the domain's taints before; ``ram``: libvirt's directory for guests' RAM, if this guest's is there;
    ``since``: when the note was written, in ticks since the host booted, like start times in proc(5)."""

    uuid: str
    name: str
    status_path: str
    taints: tuple[str, ...]
    sleeps: bool = False
    ram: str = ""
    since: int = 0


def note(saved: Saved) -> None:
    """Write the note, before the domain is started with temporary arguments.  Raises HostError."""
    kept = next((Path(file.kept).parent.parent for file in saved.ram if file.linked), "")
    body = {
        "uuid": saved.uuid,
        "name": saved.name,
        "status_path": saved.status_path,
        "taints": list(saved.taints),
        "sleeps": saved.sleeps,
        "ram": str(kept),
        "since": ticks_since_boot(),
    }
    write_private(DIRECTORY / f"{saved.uuid}.json", json.dumps(body))


def noted() -> list[Note]:
    """Every note.  A note that can't be trusted or parsed is left out, with a warning.

    Raises HostError if the directory can't be read.
    """
    notes = []
    for uuid in document.uuids(DIRECTORY):
        path = DIRECTORY / f"{uuid}.json"
        try:
            with document.reading("note", path):
                body = document.read(path)
                notes.append(Note(**{**body, "taints": tuple(body["taints"])}))
        except HostError as error:
            log.warning("%s", error)
    return notes


def drop(record: Note | Saved) -> None:
    with suppress(OSError):
        (DIRECTORY / f"{record.uuid}.json").unlink(missing_ok=True)
