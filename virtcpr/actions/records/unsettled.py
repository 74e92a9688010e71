"""Refuse to begin while an interrupted action isn't settled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from virtcpr.actions.records import journal, saves
from virtcpr.errors import SETTLE, Unsettled
from virtcpr.plan.reboot.recovery import Purpose, Stage


def uuids() -> list[str]:
    """Those of the domains whose swap, save or restore was interrupted.  Raises HostError."""
    return list(dict.fromkeys([*journal.pending(), *(saved.uuid for saved in _saves(saves.DIRECTORY))]))


def refuse_unsettled() -> None:
    """Raises Unsettled if a swap, a save or a restore was interrupted; HostError if the records can't be read."""
    refuse_unsettled_swaps()
    refuse_unsettled_saves()


def refuse_unsettled_swaps() -> None:
    """Raises Unsettled if a swap was interrupted."""
    if pending := journal.pending():
        raise Unsettled(f"an earlier swap of {', '.join(pending)} was interrupted and isn't settled", hint=SETTLE)


def refuse_unsettled_saves(directory: Path = saves.DIRECTORY) -> None:
    """Raises Unsettled if a save or a restore was interrupted.  A guest that waits for ``restore`` is fine."""
    if names := [saved.name for saved in _saves(directory)]:
        raise Unsettled(f"a save or restore of {', '.join(names)} was interrupted and isn't settled", hint=SETTLE)


def _saves(directory: Path) -> Iterator[saves.Saved]:
    for record in saves.readable(directory):
        if (record.saved.stage, record.saved.purpose) != (Stage.SAVED, Purpose.SAVE):
            yield record.saved
