"""Every error that virtcpr raises on purpose.

VirtcprError                 what failed, and a hint: what to do next
├── UsageError               the request itself is wrong (exit 2)
├── HostError                the host isn't as it must be: not root, daemon away, a lock held (exit 1)
│   └── QmpError             QEMU's monitor could not be reached, or hangs
│       └── QmpRefused       QEMU answered with an error
├── ParseError               XML, a command line, a status file, a configuration that makes no sense (exit 1)
└── SwapError                a swap ended otherwise than planned
    ├── RolledBack           before the point of no return: the guest runs in old QEMU (exit 5)
    ├── Ended                the guest shut itself down, or was shut down, meanwhile (exit 1)
    └── Unsettled            at or after it: the guest's state isn't known (exit 6)
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
    """The host isn't as virtcpr needs it.  Nothing was touched."""

    code = "host"


class QmpError(HostError):
    """A QEMU monitor that can't be reached, hangs, or refuses a command."""

    code = "qmp"


class QmpRefused(QmpError):
    """QEMU's monitor answered a command with an error; the text is QEMU's own."""


class ParseError(VirtcprError):
    """A document that can't be understood: XML, QEMU's command line, libvirt's status file, virtcpr.toml."""

    code = "parse"


class SwapError(VirtcprError):
    """A swap that ended otherwise than planned."""

    code = "swap"


class RolledBack(SwapError):
    """The swap failed before the point of no return; the guest runs on in old QEMU."""

    code = "rolled-back"
    exit_code = ExitCode.ROLLED_BACK


class Ended(SwapError):
    """There is no guest to be moved any more: it shut itself down, or somebody ended it.  No process of it is left
    that virtcpr started."""

    code = "ended"


class Unsettled(SwapError):
    """The swap failed at or after the point of no return; the journal says how far it got."""

    code = "unsettled"
    exit_code = ExitCode.UNKNOWN
