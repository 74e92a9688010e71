"""What a Debian package's changelog says of its versions: when each was released, and which CVEs it names."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from virtcpr.errors import HostError
from virtcpr.host.system.apt import owner

# deb-changelog(5): an entry begins with "NAME (VERSION) RELEASE; …", and ends with " -- NAME <ADDRESS>  DATE".
ENTRY = re.compile(r"^\S+ \(([^)]+)\) .*?^ -- [^\n]*>  ([^\n]+)$", re.MULTILINE | re.DOTALL)
CVE = re.compile(r"\bCVE-\d{4}-\d{4,}\b")
DOCUMENTATION = Path("/usr/share/doc")
NAMES = ("changelog.Debian.gz", "changelog.gz")  # the second of packages that are Debian's own


@dataclass(frozen=True)
class Release:
    """``time`` is ISO 8601; of ``cves`` the newest is first."""

    version: str
    time: str
    cves: tuple[str, ...]


def releases(path: str) -> tuple[Release, ...]:
    """Those of the package that has this file, the newest first; empty if that can't be told."""
    with suppress(HostError, OSError, EOFError, zlib.error, ValueError, StopIteration):
        directory = DOCUMENTATION / owner(path).partition(":")[0]
        changelog = next(directory / name for name in NAMES if (directory / name).exists())
        with gzip.open(changelog, "rt", encoding="utf-8", errors="replace") as file:
            return parse(file.read())
    return ()


def parse(changelog: str) -> tuple[Release, ...]:
    """Raises ValueError for a date that isn't one."""
    return tuple(
        Release(entry[1], parsedate_to_datetime(entry[2]).isoformat(), sort(CVE.findall(entry[0])))
        for entry in ENTRY.finditer(changelog)
    )


def sort(cves: Iterable[str]) -> tuple[str, ...]:
    """Each of these CVEs once, the newest first."""
    return tuple(sorted({*cves}, key=_year, reverse=True))


def _year(cve: str) -> tuple[int, int]:
    _, year, number = cve.split("-")
    return int(year), int(number)
