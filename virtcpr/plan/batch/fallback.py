"""What is said of a domain that two modes were asked about: mode transfer first, mode reboot if that can't."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from virtcpr.model import DomainReport, Outlook

Word = TypeVar("Word", Outlook, DomainReport)


def merged(transfer: Iterable[Word], reboot: Iterable[Word]) -> tuple[Word, ...]:
    """A word on each domain, in the order of ``transfer``; ``reboot`` has those that mode transfer can't move."""
    second = {word.uuid: word for word in reboot}
    return tuple(_either(word, second[word.uuid]) if word.uuid in second else word for word in transfer)


def _either(transfer: Word, reboot: Word) -> Word:
    """If neither mode can move it: the findings of both, since removing the reasons of one mode is enough."""
    if not reboot.blocked:
        return reboot
    return replace(transfer, findings=tuple(dict.fromkeys((*transfer.findings, *reboot.findings))))
