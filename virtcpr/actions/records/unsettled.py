"""Refuse to begin while an interrupted action isn't settled."""

from __future__ import annotations

from pathlib import Path

from virtcpr.actions.records import journal, saves
from virtcpr.errors import SETTLE, Unsettled
from virtcpr.plan.reboot_recovery import Purpose, Stage


def refuse_unsettled() -> None:
    """Raises Unsettled if a swap, a save or a restore was interrupted; HostError if the records can't be read."""
    refuse_unsettled_swaps()
    refuse_unsettled_saves()


def refuse_unsettled_swaps() -> None:
    """Raises Unsettled if a swap was interrupted."""
    if uuids := journal.pending():
        raise Unsettled(f"an earlier swap of {', '.join(uuids)} was interrupted and isn't settled", hint=SETTLE)


def refuse_unsettled_saves(directory: Path = saves.DIRECTORY) -> None:
    """Raises Unsettled if a save or a restore was interrupted.  A guest that waits for ``restore`` is fine."""
    records = (record.saved for record in saves.readable(directory))
    names = [saved.name for saved in records if (saved.stage, saved.purpose) != (Stage.SAVED, Purpose.SAVE)]
    if names:
        raise Unsettled(f"a save or restore of {', '.join(names)} was interrupted and isn't settled", hint=SETTLE)
