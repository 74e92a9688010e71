"""The result of reconciling one kind of options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from virtcpr.domain.argv import Option


@dataclass(frozen=True)
class Change:
    """Replacements of existing options (None: removed), additions in the order that QEMU needs, and messages about
    what can't be rebuilt."""

    replaced: Mapping[Option, Option | None] = field(default_factory=dict)
    added: tuple[Option, ...] = ()
    refused: tuple[str, ...] = ()
