"""The domains of a request."""

from __future__ import annotations

from fnmatch import fnmatchcase

from virtcpr.errors import UsageError
from virtcpr.host.libvirt.connection import Connection, Domain
from virtcpr.model import Request


def chosen(connection: Connection, request: Request, *, running: bool = True) -> list[Domain]:
    """The domains of a request, each once; ``every``: all running ones, or all if not ``running``, but the excluded.

    Raises UsageError for an unknown domain, HostError if libvirt doesn't answer.
    """
    if request.every:
        return [domain for domain in connection.domains(running=running) if not _excluded(domain.name, request)]
    domains = {domain.uuid: domain for domain in map(connection.lookup, request.domains)}
    if not domains:
        raise UsageError("name a domain, or use --all")
    return list(domains.values())


def _excluded(name: str, request: Request) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in request.exclude)
