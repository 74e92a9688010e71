"""Every error that virtcpr raises on purpose.

VirtcprError                 what failed, and a hint: what to do next
├── UsageError               the request is invalid (exit 2)
├── HostError                the host isn't ready: not root, daemon down, a lock held (exit 1)
│   └── QmpError             QEMU's monitor can't be reached, or hangs
│       └── QmpRefused       QEMU answered with an error
├── ParseError               invalid XML, command line, status file or configuration (exit 1)
└── SwapError                a swap didn't succeed
    ├── RolledBack           failed before the point of no return: the guest runs in old QEMU (exit 5)
    ├── Ended                the guest was shut down during the swap (exit 1)
    └── Unsettled            failed at or after it: the guest's state isn't known (exit 6)
"""

from __future__ import annotations

from typing import ClassVar

from virtcpr.model import ExitCode

SETTLE = "virtcpr recover --all settles it"


class VirtcprError(Exception):
    """What failed, on which domain and how the guest is now; ``hint`` says what to do next."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(VirtcprError):
    """The request is invalid: unknown domain, a remote URI, options that exclude each other."""

    code = "usage"
    exit_code = ExitCode.USAGE


class HostError(VirtcprError):
    """The host isn't ready.  Nothing was touched."""

    code = "host"


class QmpError(HostError):
    """A QEMU monitor that can't be reached, hangs, or refuses a command."""

    code = "qmp"


class QmpRefused(QmpError):
    """QEMU answered a command with an error; the text is QEMU's."""


class ParseError(VirtcprError):
    """A document that can't be parsed: XML, QEMU's command line, libvirt's status file, virtcpr.toml."""

    code = "parse"


class SwapError(VirtcprError):
    """The swap didn't succeed."""

    code = "swap"


class RolledBack(SwapError):
    """The swap failed before the point of no return; the guest keeps running in old QEMU."""

    code = "rolled-back"
    exit_code = ExitCode.ROLLED_BACK


class Ended(SwapError):
    """The guest was shut down during the swap, from inside or from outside.  No process that virtcpr started for it is
    left."""

    code = "ended"


class Unsettled(SwapError):
    """The swap failed at or after the point of no return; the journal says how far it got."""

    code = "unsettled"
    exit_code = ExitCode.UNKNOWN
