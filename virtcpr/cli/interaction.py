"""What the commands that touch guests have in common: the question before, and the display meanwhile."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from typing import TypeVar

from virtcpr.cli.session import Session
from virtcpr.errors import Unsettled, UsageError, VirtcprError
from virtcpr.model import Watch

Done = TypeVar("Done")


def agreed(session: Session, shown: str, question: str) -> bool:
    """Write ``shown``, the planned changes, and ask on the terminal; any answer but yes is no.

    :raise UsageError: if there is no terminal to ask on.
    """
    if not session.can_ask():
        raise UsageError("there is no terminal to ask on", hint="--yes goes ahead without asking")
    sys.stderr.write(f"{shown}\n{question} [y/N] ")
    sys.stderr.flush()
    _await_answer()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _await_answer() -> None:
    """Wait for a line, or a signal: one that comes just before a read() would be noticed only after the line."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    before = signal.set_wakeup_fd(theirs)
    try:
        select.select([sys.stdin, ours], [], [])
    finally:
        signal.set_wakeup_fd(before)
        os.close(ours)
        os.close(theirs)


def watched(session: Session, names: tuple[str, ...], run: Callable[[Watch], Done], *, what: str) -> Done:
    """Run ``run`` with the display; ``what`` names it in an error: the swap, the save.

    :raise Unsettled: if a defect ended it, so that nothing is known about the guests.
    """
    from virtcpr.cli.output.progress import watching

    with watching(session, names) as watch:
        try:
            return run(watch)
        except VirtcprError:
            raise
        except Exception as error:
            raise Unsettled(
                f"internal error during {what}: {type(error).__name__}: {error}",
                hint="look at each guest before anything else; /run/virtcpr/journal says how far it got",
            ) from error
