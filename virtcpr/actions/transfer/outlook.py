"""What an upgrade is about to do with each domain: it is looked at, judged, planned and rehearsed.  Touches nothing."""

from __future__ import annotations

from collections.abc import Iterable

from virtcpr.actions.inspect.probe import Probe
from virtcpr.actions.inspect.selection import chosen
from virtcpr.actions.rehearsal.rehearse import Part
from virtcpr.actions.rehearsal.rehearse import rehearse as try_twins
from virtcpr.actions.transfer.move import Move
from virtcpr.host.libvirt.connection import Connection, Domain
from virtcpr.model import Request


def planned(connection: Connection, request: Request, *, ping: bool = False) -> list[Move]:
    """One move a domain of the request.  Raises UsageError and HostError; what is wrong with one domain is in its move.

    With ``ping`` it is found out, too, whose guest agent answers.

    With ``request.rehearse`` those that can be moved are rehearsed: a few seconds a shape of guests.
    """
    pairs = looked(connection, request, ping=ping)
    if request.rehearse:
        rehearse(pairs)
    return [move for _, move in pairs]


def looked(connection: Connection, request: Request, *, ping: bool = False) -> list[tuple[Domain, Move]]:
    """The same without a rehearsal, each with its domain."""
    probe = Probe(request.emulator, ping=ping)
    return [(domain, Move.of(probe.facts(domain))) for domain in chosen(connection, request)]


def rehearse(pairs: Iterable[tuple[Domain, Move]]) -> None:
    """Have those that can be moved tried by a twin; where that fails a move becomes ``blocked``."""
    parts = [(move, Part(move.facts, domain.monitor)) for domain, move in pairs if not move.result]
    try_twins([part for _, part in parts])
    for move, part in parts:
        move.rehearsed(part.result)
