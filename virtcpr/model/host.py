"""What a host's domains run in: the results of ``list`` and ``report``."""

from __future__ import annotations

from dataclasses import dataclass

from virtcpr.model.auto import HistoryEntry
from virtcpr.model.builds import KeptBuild
from virtcpr.model.words import ExitCode, Finding, Mode


@dataclass(frozen=True)
class DomainRow:
    """One line of ``list``.  ``ready`` names the mode that the running process is ready for.

    ``prepared``: whether the persistent XML is ready for mode transfer; None if there is none, or it can't be read.
    """

    name: str
    uuid: str
    id: int | None
    state: str
    running: str | None
    installed: str | None
    outdated: bool | None
    ready: Mode | None
    prepared: bool | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class ListReport:
    """``uri``: the libvirt that was asked, None where that is plain."""

    domains: tuple[DomainRow, ...]
    exit_code: ExitCode = ExitCode.DONE
    uri: str | None = None


@dataclass(frozen=True)
class BuildInUse:
    """A build of QEMU that domains run in, by their names, and what is installed in its place now.

    ``released`` is ISO 8601: when its package was; ``fixes``: the CVEs that the changelog of the installed package
    names after it.  Both are None if that changelog isn't there, or doesn't know this build's package.
    """

    version: str
    installed: str | None
    outdated: bool | None
    domains: tuple[str, ...]
    released: str | None = None
    fixes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class HostReport:
    """What ``report`` found.  ``time`` and ``since`` are ISO 8601; ``entries`` are the moves between the two.

    ``unsettled``: the domains whose move, save or restore was interrupted, by name or UUID.
    """

    host: str
    time: str
    since: str
    domains: tuple[DomainRow, ...]
    builds: tuple[BuildInUse, ...]
    kept: tuple[KeptBuild, ...]
    unsettled: tuple[str, ...]
    entries: tuple[HistoryEntry, ...]
    exit_code: ExitCode = ExitCode.DONE
    uri: str | None = None
