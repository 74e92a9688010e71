"""The administrator's own programs that get the results: the executable files of /etc/virtcpr/notify.d."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from virtcpr.errors import HostError
from virtcpr.host.report.programs import programs, run_program

log = logging.getLogger(__name__)
DIRECTORY = Path("/etc/virtcpr/notify.d")
SECONDS = 30.0


def tell(document: str, environment: Mapping[str, str], directory: Path = DIRECTORY) -> None:
    """Run each program, in order, with ``document`` on its stdin.  A program that fails, or that users other than root
    could have written, is only logged."""
    for path in programs(directory):
        try:
            run_program(path, document=document, seconds=SECONDS, environment=environment)
        except HostError as error:
            log.warning("notify.d: %s", error.message)
