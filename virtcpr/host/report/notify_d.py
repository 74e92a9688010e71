"""The administrator's own programs that get the results: the executable files of /etc/virtcpr/notify.d."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from virtcpr.errors import HostError
from virtcpr.host.files.config_files import refuse_untrusted
from virtcpr.host.processes.run import run

log = logging.getLogger(__name__)
DIRECTORY = Path("/etc/virtcpr/notify.d")
SECONDS = 30.0
# What editors and package managers leave beside a file.
LEFT_BEHIND = ("~", ".bak", ".swp", ".dpkg-old", ".dpkg-new", ".dpkg-dist", ".dpkg-tmp", ".rpmsave", ".rpmnew")


def tell(document: str, environment: Mapping[str, str], directory: Path = DIRECTORY) -> None:
    """Run each program, in order, with ``document`` on its stdin.  A program that fails, or that users other than root
    could have written, is only logged."""
    for path in programs(directory):
        try:
            for entry in (path, path.parent):
                refuse_untrusted(entry)
            run([str(path)], timeout=SECONDS, text=document.encode(), more=environment)
        except HostError as error:
            log.warning("notify.d: %s", error.message)


def programs(directory: Path = DIRECTORY) -> Iterator[Path]:
    """The programs that ``tell`` runs, in order."""
    for path in sorted(directory.glob("*")):
        hidden = path.name.startswith(".") or path.name.endswith(LEFT_BEHIND)
        if not hidden and path.is_file() and os.access(path, os.X_OK):
            yield path
