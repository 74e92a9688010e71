"""``report``: what the domains of this host run in, and how their moves went."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from virtcpr.actions import builds, history
from virtcpr.actions.inspect.probe import Probe
from virtcpr.actions.list import row
from virtcpr.actions.records import unsettled
from virtcpr.domain.facts import DomainFacts
from virtcpr.host.files.atomic import read_document, write_public
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.system import changelog
from virtcpr.host.system.changelog import Release
from virtcpr.model import BuildInUse, DomainRow, HistoryEntry, HostReport

DAYS = 90  # of the history
MAX_REPORT = 64 << 20  # bytes, of one host


def report(uri: str | None) -> HostReport:
    """Look at every domain, the kept builds and the history.  Reads only.

    Raises HostError if libvirt doesn't answer, or this user may not look.
    """
    now = datetime.now(UTC)
    since = now - timedelta(days=DAYS)
    moved = history.report(uri, (), None)
    with Connection(uri) as connection:
        probe = Probe()
        facts = [probe.facts(domain) for domain in connection.domains(running=False)]
    rows = [row(one) for one in facts]
    return HostReport(
        host=os.uname().nodename,
        time=now.isoformat(timespec="seconds"),
        since=since.isoformat(timespec="seconds"),
        domains=tuple(rows),
        builds=tuple(_in_use(facts, rows)),
        kept=builds.report(uri, keep=False).builds,
        unsettled=tuple(_names(unsettled.uuids(), rows)),
        entries=tuple(entry for entry in moved.entries if _time(entry) >= since),
        uri=moved.uri,
    )


def read(source: str) -> str:
    """The report of another host in a file; ``-`` is stdin.  Raises HostError."""
    return read_document(source, MAX_REPORT)


def write(path: str, page: str) -> None:
    """Raises HostError; the file is as it was then."""
    write_public(Path(path), page)


def _in_use(facts: Sequence[DomainFacts], rows: Sequence[DomainRow]) -> Iterator[BuildInUse]:
    groups: dict[tuple[str, str, bool | None], list[tuple[DomainFacts, DomainRow]]] = defaultdict(list)
    for one, its in zip(facts, rows, strict=True):
        if its.running:
            groups[its.running, one.emulator.path, its.outdated].append((one, its))
    known: dict[str, tuple[Release, ...]] = {}
    for (version, path, outdated), group in groups.items():
        if path not in known:
            known[path] = changelog.releases(path)
        (first, its), *_ = group
        released, fixes = _since(first.qemu.package if first.qemu else "", known[path])
        names = tuple(row.name for _, row in group)
        yield BuildInUse(version, its.installed, outdated, names, released, fixes)


def _since(package: str, releases: Sequence[Release]) -> tuple[str | None, tuple[str, ...] | None]:
    """When this package was released, and the CVEs that later ones name.  As QEMU writes it: ``Debian 1:10.0.2-1``."""
    version = package.rpartition(" ")[2]
    for number, release in enumerate(releases):
        if release.version == version:
            return release.time, changelog.sort(cve for later in releases[:number] for cve in later.cves)
    return None, None


def _names(uuids: Sequence[str], rows: Sequence[DomainRow]) -> Iterator[str]:
    names = {row.uuid: row.name for row in rows}
    for uuid in uuids:
        yield names.get(uuid, uuid)


def _time(entry: HistoryEntry) -> datetime:
    time = datetime.fromisoformat(entry.time)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
