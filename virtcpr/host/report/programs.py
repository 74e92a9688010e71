"""Programs of the administrator's in a directory of /etc/virtcpr."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from virtcpr.host.files.config_files import refuse_untrusted
from virtcpr.host.processes.run import run

# What editors and package managers leave beside a file.
LEFT_BEHIND = ("~", ".bak", ".swp", ".dpkg-old", ".dpkg-new", ".dpkg-dist", ".dpkg-tmp", ".rpmsave", ".rpmnew")


def programs(directory: Path) -> Iterator[Path]:
    """The executable files, in the order of their names."""
    for path in sorted(directory.glob("*")):
        hidden = path.name.startswith(".") or path.name.endswith(LEFT_BEHIND)
        if not hidden and path.is_file() and os.access(path, os.X_OK):
            yield path


def run_program(
    path: Path, *arguments: str, document: str, seconds: float, environment: Mapping[str, str] | None = None
) -> None:
    """Run one with ``document`` on its stdin, for so many seconds at most.

    Raises HostError if it fails, or users other than root could have written it.
    """
    for entry in (path, path.parent):
        refuse_untrusted(entry)
    run([str(path), *arguments], timeout=seconds, text=document.encode(), more=environment)
