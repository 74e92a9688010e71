"""stderr: log records, errors and notes, with syslog's ``<N>`` if they go to the journal."""

from __future__ import annotations

import contextlib
import logging
import os
import sys

from virtcpr.cli.output.text import visible_lines

ERROR, WARNING, INFO, DEBUG = 3, 4, 6, 7
_PRIORITIES = {
    logging.CRITICAL: 2,
    logging.ERROR: ERROR,
    logging.WARNING: WARNING,
    logging.INFO: INFO,
    logging.DEBUG: DEBUG,
}


def journald() -> bool:
    """Whether stderr leads to the journal: systemd names its socket in JOURNAL_STREAM as device:inode.

    The comparison matters: a program whose stderr was redirected inherits the variable all the same.
    """
    stream = os.environ.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


def say(text: str, priority: int = INFO) -> None:
    """Write ``text`` to stderr.  A closed stderr is no failure: the exit code still counts."""
    prefix = f"<{priority}>" if journald() else ""
    with contextlib.suppress(OSError, ValueError):
        print("\n".join(prefix + line for line in text.split("\n")), file=sys.stderr, flush=True)


class _Handler(logging.Handler):
    """Looks up ``sys.stderr`` for each record, so that the live display stays below the log."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            lines = visible_lines(self.format(record))
        except Exception:
            self.handleError(record)
            return
        say("\n".join(lines), _PRIORITIES.get(record.levelno, INFO))


def set_up(verbosity: int = 0) -> None:
    """Log to stderr: errors only when quiet (-1), warnings (0), -v information (1), -vv debug with times (2).

    The QMP library's own records aren't shown: virtcpr logs what matters itself.
    """
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(handler)
    handler = _Handler()
    times = "%(asctime)s.%(msecs)03d " if verbosity > 1 and not journald() else ""  # the journal has its own
    handler.setFormatter(logging.Formatter(f"virtcpr: {times}%(levelname)s: %(message)s", "%H:%M:%S"))
    root.addHandler(handler)
    levels = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}
    logging.getLogger("virtcpr").setLevel(levels.get(verbosity, logging.DEBUG))
    logging.getLogger("qemu").setLevel(logging.CRITICAL)
