"""What an upgrade is about to do with each domain: it is looked at, judged, planned and rehearsed.  Touches nothing."""

from __future__ import annotations

from virtcpr.host.libvirt import Connection
from virtcpr.model import Request
from virtcpr.swap import rehearsal
from virtcpr.swap.move import Move
from virtcpr.swap.probe import Probe
from virtcpr.swap.selection import chosen


def planned(connection: Connection, request: Request, *, ping: bool = False) -> list[Move]:
    """One move a domain of the request.  Raises UsageError and HostError; what is wrong with one domain is in its move.

    With ``ping`` it is found out, too, whose guest agent answers.

    With ``request.rehearse`` those that can be moved are rehearsed: a few seconds a shape of guests.
    """
    probe = Probe(request.emulator, ping=ping)
    domains = chosen(connection, request)
    moves = [Move.of(probe.facts(domain)) for domain in domains]
    if request.rehearse:
        pairs = zip(moves, domains, strict=True)
        parts = {id(move): rehearsal.Part(move.facts, domain.monitor) for move, domain in pairs if not move.result}
        rehearsal.rehearse(parts.values())
        for move in moves:
            if id(move) in parts:
                move.rehearsed(parts[id(move)].result)
    return moves
