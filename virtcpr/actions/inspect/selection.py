"""The domains of a request."""

from __future__ import annotations

from fnmatch import fnmatchcase

from virtcpr.domain.live import LiveDomain
from virtcpr.errors import HostError, UsageError
from virtcpr.host.libvirt.connection import Connection, Domain
from virtcpr.model import Request

TAG = "tag:"


def chosen(connection: Connection, request: Request, *, running: bool = True) -> list[Domain]:
    """The domains of a request, each once; ``every``: all running ones, or all if not ``running``, but the excluded.

    Raises UsageError for an unknown domain, HostError if libvirt doesn't answer, ParseError for XML that isn't a
    domain's.
    """
    if request.every:
        return [domain for domain in connection.domains(running=running) if not _excluded(connection, domain, request)]
    domains = {domain.uuid: domain for domain in map(connection.lookup, request.domains)}
    if not domains:
        raise UsageError("name a domain, or use --all")
    return list(domains.values())


def _excluded(connection: Connection, domain: Domain, request: Request) -> bool:
    """By its name, or by one of its tags: a pattern with ``tag:`` before it.  One that is gone meanwhile is, too."""
    names = [pattern for pattern in request.exclude if not pattern.startswith(TAG)]
    if any(fnmatchcase(domain.name, pattern) for pattern in names):
        return True
    patterns = [pattern.removeprefix(TAG) for pattern in request.exclude if pattern.startswith(TAG)]
    if not patterns:
        return False
    try:
        tags = LiveDomain.of(domain.xml()).tags
    except HostError:
        if connection.find(domain.uuid) is not None:
            raise
        return True
    return any(fnmatchcase(tag, pattern) for tag in tags for pattern in patterns)
