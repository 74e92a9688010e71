"""The one door from the command line to the layers below, and what the command line expects behind it.

They are imported on first use: ``virtcpr --help`` loads neither libvirt nor lxml nor asyncio.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from virtcpr.model import ListReport, Outlook, Progress, Request, UpgradeReport

Watch = Callable[[Progress], None]


class Upgrade(Protocol):
    """An upgrade that is planned, and whose lock is held."""

    @property
    def outlooks(self) -> tuple[Outlook, ...]:
        """What is about to be done with each domain."""
        ...

    def run(self, watch: Watch) -> UpgradeReport:
        """Do it, and let ``watch`` hear of every step.  SIGINT is handled: it ends with a report too."""
        ...


class Backend(Protocol):
    """What the commands do, without the terminal."""

    def list_domains(self, uri: str | None, domains: tuple[str, ...]) -> ListReport:
        """Look at ``domains``, or at all of them where it is empty.

        :raise VirtcprError: for an unknown domain, or a daemon that doesn't answer.
        """
        ...

    def open_upgrade(self, request: Request) -> AbstractContextManager[Upgrade]:
        """Take the lock, probe and plan; nothing is touched.

        :raise VirtcprError: on entering: unknown domain, not root, a lock that is held, and the like.
        """
        ...


class SwapBackend:
    """The real one."""

    def list_domains(self, uri: str | None, domains: tuple[str, ...]) -> ListReport:
        from virtcpr.swap.listing import list_domains

        return list_domains(uri, domains)

    def open_upgrade(self, request: Request) -> AbstractContextManager[Upgrade]:
        from virtcpr.swap.batch import open_upgrade

        return open_upgrade(request)
