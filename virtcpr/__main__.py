"""``virtcpr`` and ``python -m virtcpr``: signals first, then the command line.

Everything heavy is imported inside ``main``, so that a Ctrl-C during start-up ends without a traceback too.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

INTERRUPTED = 130


def main() -> int:
    """Run the command that ``sys.argv`` asks for; return the exit code."""
    try:
        _catch_signals()
        from virtcpr.cli.app import run

        return run(sys.argv[1:])
    except KeyboardInterrupt:
        return INTERRUPTED


def _catch_signals() -> None:
    """SIGTERM and SIGHUP mean what Ctrl-C means: the swap rolls back, or finishes what it is at."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1) stays in force
            signal.signal(number, _as_interrupt)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
