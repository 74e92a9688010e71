"""What apt would install for a file: asked of apt itself, which changes nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from virtcpr.errors import HostError
from virtcpr.host.processes.run import run

# A line of apt-get --simulate: Inst NAME [INSTALLED] (VERSION RELEASE [ARCHITECTURE]) …
INSTALL = re.compile(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) .*\[(\w+)\]\)", re.MULTILINE)
DOWNLOAD_SECONDS = 600.0


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    architecture: str

    @property
    def described(self) -> str:
        return f"{self.name}:{self.architecture}={self.version}"

    @property
    def file_name(self) -> str:
        """As apt names the file, in its cache, too (apt-pkg/acquire-item.cc: QuoteString of "_:")."""
        version = self.version.replace(":", "%3a")
        return f"{self.name}_{version}_{self.architecture}.deb"


def upgrades(paths: Iterable[str]) -> tuple[Package, ...]:
    """The packages that apt would install to upgrade those that own these files; empty if there is nothing newer.

    A file that isn't from a package has none.  Raises HostError if no file is from one, or there is no apt.
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg-query"):
        raise HostError(
            "there is no apt on this host, which --from-archive asks", hint="give the new build: --emulator PATH"
        )
    owners: set[str] = set()
    without: list[HostError] = []
    for path in sorted(set(paths)):
        try:
            owners.add(owner(path))
        except HostError as error:
            without.append(error)
    if without and not owners:
        raise without[0]
    simulated = run(["apt-get", "--simulate", "--only-upgrade", "--quiet=2", "install", *sorted(owners)])
    return tuple(Package(*match.groups()) for match in INSTALL.finditer(simulated))


def owner(path: str) -> str:
    """The package that has this file.  Raises HostError if none has, or there is no dpkg."""
    try:
        found = run(["dpkg-query", "--search", path])
    except HostError as error:
        raise HostError(f"no package has {path}", hint="give the new build: --emulator PATH") from error
    return found.partition(": ")[0].partition(",")[0]


def download(packages: Iterable[Package], directory: Path) -> list[Path]:
    """The files of these packages: those in apt's cache, and the others downloaded into this directory.

    (``apt-get download`` doesn't look into the cache.)  Raises HostError.
    """
    found = {package: _cache() / package.file_name for package in packages}
    missing = [package for package, path in found.items() if not path.exists()]
    if missing:
        command = ["apt-get", "--quiet=2", "download", *(package.described for package in missing)]
        run(["env", f"--chdir={directory}", *command], timeout=DOWNLOAD_SECONDS)
    return [directory / package.file_name if package in missing else path for package, path in found.items()]


def _cache() -> Path:
    line = run(["apt-config", "shell", "place", "Dir::Cache::archives/d"])  # place='/var/cache/apt/archives/'
    return Path(line.partition("=")[2].strip().strip("'"))
