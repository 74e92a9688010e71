"""The administrator's own programs around a move: the executable files of /etc/virtcpr/hooks.d.

Each is run with the event as its argument and a JSON object on its stdin, which is made only if there is one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from virtcpr.errors import HostError
from virtcpr.host.report.programs import programs, run_program
from virtcpr.host.system.paths import PATHS, SYSTEM

log = logging.getLogger(__name__)
DIRECTORY = Path("/etc/virtcpr/hooks.d")
SECONDS = 30.0


def _programs() -> Iterator[Path]:
    """None for a user's own guests (``qemu:///session``): they aren't the system's."""
    return programs(DIRECTORY) if PATHS is SYSTEM else iter(())


def ask(event: str, document: Callable[[], str]) -> str | None:
    """Run each program, in order, until one objects: why, in its own words; None if none does.

    One that fails, takes too long, or could have been written by others than root objects, too.
    """
    for path in _programs():
        try:
            run_program(path, event, document=document(), seconds=SECONDS)
        except HostError as error:
            return error.message
    return None


def tell(event: str, document: Callable[[], str]) -> None:
    """Run each program, in order.  One that fails is only logged."""
    for path in _programs():
        try:
            run_program(path, event, document=document(), seconds=SECONDS)
        except HostError as error:
            log.warning("hooks.d: %s", error.message)
