"""The note that a package manager's trigger writes (packages/trigger): take it, put it back, or finish it."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from virtcpr.errors import HostError
from virtcpr.host.files.atomic import read_text, write_private
from virtcpr.host.processes.outlive import SYSTEMD
from virtcpr.host.processes.run import run
from virtcpr.host.system.lock import RUN_DIR

log = logging.getLogger(__name__)
TIMER = "virtcpr-auto.timer"
TOLD = "(told)"


class Note:
    """The note has two names: ``pending``, as the trigger writes it, and ``pending.taken`` while `auto` runs.

    A trigger that runs meanwhile writes a new ``pending``.
    """

    def __init__(self, directory: Path = RUN_DIR) -> None:
        self.new = directory / "pending"
        self.taken = directory / "pending.taken"

    def take(self) -> bool:
        """Take the note.  Returns whether there was one.  A note taken by a dead run counts as ours: returns False."""
        try:
            self.new.replace(self.taken)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise HostError(f"{self.new} can't be taken: {error.strerror}", hint="check who created it") from error
        return True

    def there(self) -> bool:
        return self.taken.exists()

    @property
    def told(self) -> bool:
        """Whether this note was reported already."""
        with suppress(HostError):
            return TOLD in read_text(self.taken).splitlines()
        return False

    def mark_told(self) -> None:
        with suppress(HostError):
            write_private(self.taken, f"{TOLD}\n")

    def put_back(self) -> None:
        """Keep the note for the timer's next try.  A newer note replaces it."""
        with suppress(OSError):  # gone, or there is a newer note
            os.link(self.taken, self.new, follow_symlinks=False)
        self._remove()
        _systemctl("start")

    def leave(self) -> bool:
        """Leave a note for what a run by hand found waiting, and start the timer; a note that is there stays.

        Returns whether the timer will come.  It was reported already: the timer's runs don't report it again.
        """
        if not self.new.exists():
            try:
                write_private(self.new, f"{TOLD}\n")
            except HostError as error:
                log.warning("%s", error.message)
                return False
        return _systemctl("start")

    def finish(self) -> None:
        """Remove the note and stop the timer, unless a new note came meanwhile."""
        self._remove()
        _systemctl("stop")
        if self.new.exists():  # written before the timer stopped: the trigger's start did nothing
            _systemctl("start")

    def _remove(self) -> None:
        with suppress(OSError):
            self.taken.unlink(missing_ok=True)


def _systemctl(verb: str) -> bool:
    """Whether that worked.  Does nothing without systemd; a failure is logged."""
    if not SYSTEMD.is_dir():
        return False
    try:
        run(["systemctl", "--no-block", verb, TIMER])
    except HostError as error:
        log.warning("%s", error.message)
        return False
    return True
