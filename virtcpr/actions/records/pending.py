"""Which domains have a record of something that was begun: a swap, a save, a restore, a record that is held."""

from __future__ import annotations

from contextlib import suppress

from virtcpr.actions.records import journal, quarantine, saves
from virtcpr.errors import HostError
from virtcpr.plan.reboot.recovery import Purpose, Stage

WAITS = (Stage.SAVED, Purpose.SAVE)


def domains(*, waiting: bool = True) -> dict[str, str]:
    """UUID → name; the name is empty where a record can't be read.  ``waiting``: also guests that wait for `restore`.

    Saves and held records in a directory that can't be read are left out; HostError if the journals can't be.
    """
    found = dict[str, str]()
    with suppress(HostError):
        found |= quarantine.held()
    with suppress(HostError):
        found |= {uuid: "" for uuid, _ in saves.broken()}
        saved = [record.saved for record in saves.readable()]
        found |= {one.uuid: one.name for one in saved if waiting or (one.stage, one.purpose) != WAITS}
    for uuid in journal.pending():
        found.setdefault(uuid, "")
        with suppress(HostError):
            found[uuid] = journal.load(uuid).entry.name
    return found
