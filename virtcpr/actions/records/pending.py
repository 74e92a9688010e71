"""Which domains have a record of something that was begun: a swap, a save, a restore, a record that is held."""

from __future__ import annotations

from contextlib import suppress

from virtcpr.actions.records import journal, quarantine, saves
from virtcpr.errors import HostError


def domains() -> dict[str, str]:
    """UUID → name; the name is empty where a record can't be read.  A saved guest that waits is one of them.

    Those in a directory that can't be read are left out.
    """
    found = dict[str, str]()
    with suppress(HostError):
        found |= quarantine.held()
    with suppress(HostError):
        found |= {uuid: "" for uuid, _ in saves.broken()}
        found |= {record.saved.uuid: record.saved.name for record in saves.readable()}
    for uuid in journal.pending():
        found.setdefault(uuid, "")
        with suppress(HostError):
            found[uuid] = journal.load(uuid).entry.name
    return found
