"""The note of a package manager's trigger (packages/trigger): taken, put back, or finished."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from virtcpr.errors import HostError
from virtcpr.host.files.atomic import read_text, write_private
from virtcpr.host.processes.guard import SYSTEMD
from virtcpr.host.processes.run import run
from virtcpr.host.system.lock import RUN_DIR

log = logging.getLogger(__name__)
TIMER = "virtcpr-auto.timer"
TOLD = "(told)"


class Note:
    """The note under its two names: ``pending``, as the trigger writes it, and ``pending.taken`` while it is worked on.

    A trigger that comes meanwhile makes a new one beside it.
    """

    def __init__(self, directory: Path = RUN_DIR) -> None:
        self.new = directory / "pending"
        self.taken = directory / "pending.taken"

    def take(self) -> bool:
        """Take the note; whether there was one.  A note that was taken by a process which died counts as ours already:
        returns False then."""
        try:
            self.new.replace(self.taken)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise HostError(f"{self.new} can't be taken: {error.strerror}", hint="see who made it") from error
        return True

    def there(self) -> bool:
        return self.taken.exists()

    @property
    def told(self) -> bool:
        """Whether the administrator has heard of this one already."""
        with suppress(HostError):
            return TOLD in read_text(self.taken).splitlines()
        return False

    def mark_told(self) -> None:
        with suppress(HostError):
            write_private(self.taken, f"{TOLD}\n")

    def put_back(self) -> None:
        """It stays to be done; the timer tries again.  A newer one takes its place."""
        with suppress(OSError):  # gone, or there is a newer one
            os.link(self.taken, self.new, follow_symlinks=False)
        self._remove()
        _systemctl("start")

    def finish(self) -> None:
        """Nothing is left to be done, unless another one came meanwhile."""
        self._remove()
        _systemctl("stop")
        if self.new.exists():  # it came before the timer was stopped: its own start of it did nothing
            _systemctl("start")

    def _remove(self) -> None:
        with suppress(OSError):
            self.taken.unlink(missing_ok=True)


def _systemctl(verb: str) -> None:
    """Nothing where it isn't systemd's host; a failure is logged."""
    if not SYSTEMD.is_dir():
        return
    try:
        run(["systemctl", "--no-block", verb, TIMER])
    except HostError as error:
        log.warning("%s", error.message)
