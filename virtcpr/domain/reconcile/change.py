"""What reconciling one kind of options comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from virtcpr.domain.argv import Option


@dataclass(frozen=True)
class Change:
    """What becomes of options that are there (None: it goes), what is added, in the order in which QEMU needs it, and
    what can't be rebuilt."""

    replaced: Mapping[Option, Option | None] = field(default_factory=dict)
    added: tuple[Option, ...] = ()
    refused: tuple[str, ...] = ()
