"""``virtcpr`` and ``python -m virtcpr``: signals first, then the command line.

Heavy imports are inside ``main``, so that a Ctrl-C during start-up prints no traceback either.
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
    """Treat SIGTERM and SIGHUP like Ctrl-C: the swap rolls back, or completes."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1) set SIG_IGN: keep it
            signal.signal(number, _as_interrupt)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell sets that for a background command of a script
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
