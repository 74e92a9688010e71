"""The domains of a request."""

from __future__ import annotations

from virtcpr.errors import UsageError
from virtcpr.host.libvirt.connection import Connection, Domain
from virtcpr.model import Request


def chosen(connection: Connection, request: Request, *, running: bool = True) -> list[Domain]:
    """The domains of a request, each once; with ``every``, all running domains, or all if not ``running``.

    Raises UsageError for an unknown domain, HostError if libvirt doesn't answer.
    """
    if request.every:
        return list(connection.domains(running=running))
    domains = {domain.uuid: domain for domain in map(connection.lookup, request.domains)}
    if not domains:
        raise UsageError("name a domain, or use --all")
    return list(domains.values())
