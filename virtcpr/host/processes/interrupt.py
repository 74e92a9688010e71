"""Signals of a terminal while guests are moved: Ctrl-C is a decision between steps, and Ctrl-Z stops nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | None

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Unstopped:
    """While entered, neither Ctrl-Z nor output from the background (stty tostop) stops this process.

    A guest may be paused, or libvirt's daemon away, and the guardian acts only if it is dead.
    """

    def __init__(self) -> None:
        self._before: dict[int, Handler] = {}

    def __enter__(self) -> Unstopped:
        if signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN:
            # A handler, as programs that are started inherit what is ignored.
            self._before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, _go_on)
        # Ignored: a write that a handler interrupts would be tried for ever.  QEMU and helpers don't inherit it.
        self._before[signal.SIGTTOU] = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Interrupt:
    """While entered, a signal sets ``requested`` and calls ``on_request``; leaving restores the previous handlers.

    If several are nested, a signal reaches all of them.  This process is never stopped meanwhile, as in ``Unstopped``.
    """

    def __init__(self) -> None:
        self.requested = False
        self.on_request: Callable[[], object] | None = None
        self._before: dict[int, Handler] = {}
        self._unstopped = Unstopped()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if self.on_request is not None:
            self.on_request()
        outer = self._before.get(number)
        if callable(outer) and isinstance(getattr(outer, "__self__", None), Interrupt):
            outer(number, frame)

    def __enter__(self) -> Interrupt:
        heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup stays nohup
        self._before = {number: signal.signal(number, self._handle) for number in heeded}
        self._unstopped.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._unstopped.__exit__()
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _go_on(_number: int, _frame: FrameType | None) -> None:
    """Ctrl-Z."""
