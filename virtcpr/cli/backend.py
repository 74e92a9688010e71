"""What the command line expects of the layers below: an interface, for the real one and for that of the tests."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal, Protocol

from virtcpr.model import (
    AutoReport,
    Blackouts,
    BuildsReport,
    Candidates,
    CertifyReport,
    CheckReport,
    HistoryReport,
    HookAction,
    HookReport,
    HostReport,
    KeptDomain,
    ListReport,
    Mode,
    Outlook,
    PlanReport,
    PreparedDomain,
    PrepareReport,
    RecoverReport,
    Request,
    RestoreReport,
    SaveReport,
    UpgradeReport,
    Watch,
)

Nameable = Literal["all", "running", "saved", "interrupted"]  # domains whose names a shell can complete


class Planned(Protocol):
    """Planned moves; the lock is held."""

    @property
    def outlooks(self) -> tuple[Outlook, ...]:
        """What is about to be done with each domain."""
        ...

    @property
    def forecast(self) -> Blackouts | None:
        """How often and how long libvirt's daemon will be away; None if that can't be told."""
        ...


class Upgrade(Planned, Protocol):
    """A planned upgrade."""

    def run(self, watch: Watch) -> UpgradeReport:
        """Do it, and call ``watch`` at every step.  SIGINT is handled: it ends with a report, too."""
        ...


class Undoing(Upgrade, Protocol):
    """A planned way back."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Why domains of the batch aren't looked at, or that there is nothing to undo."""
        ...


class MakingReady(Planned, Protocol):
    """The moves that follow a preparation."""

    def run(self, watch: Watch) -> PrepareReport:
        """As ``Upgrade.run``; the report of the preparation, with what became of the moves."""
        ...


class Preparation(Protocol):
    """Domains whose XML is edited in memory; the lock is held."""

    @property
    def outlooks(self) -> tuple[PreparedDomain, ...]:
        """What is about to be done with each domain."""
        ...

    def report(self, *, dry_run: bool = False) -> PrepareReport:
        """The changes as a report, without making them."""
        ...

    def run(self) -> PrepareReport:
        """Do it."""
        ...


class Saving(Protocol):
    """Domains that are about to be saved; the lock is held."""

    @property
    def outlooks(self) -> tuple[KeptDomain, ...]:
        """What is about to be done with each domain: ``saved``, or ``blocked``."""
        ...

    def run(self, watch: Watch) -> SaveReport:
        """Do it, and call ``watch`` at every step.  SIGINT is handled: it ends with a report, too."""
        ...


class Restoring(Protocol):
    """Saved domains that are about to be restored or discarded; the lock is held."""

    @property
    def outlooks(self) -> tuple[KeptDomain, ...]:
        """What is about to be done with each domain: ``restored``, ``discarded`` or ``blocked``."""
        ...

    def run(self, watch: Watch) -> RestoreReport:
        """Do it, and call ``watch`` at every step.  SIGINT is handled: it ends with a report, too."""
        ...


class Automatic(Protocol):
    """What the configuration says about outdated domains, planned."""

    @property
    def report(self) -> AutoReport:
        """What is about to be done with each domain, as ``--dry-run`` shows it."""
        ...

    @property
    def moving(self) -> tuple[str, ...]:
        """The names of the domains that are about to be moved."""
        ...

    def run(self, watch: Watch) -> AutoReport:
        """Do it, and call ``watch`` at every step.  SIGINT is handled: it ends with a report, too."""
        ...

    def tell(self, report: AutoReport, document: str, table: str, *, changes: bool = False) -> None:
        """Send the report to the journal, and to the configured recipients; ``document`` is its JSON.

        ``changes``: to these only what they weren't told last time.
        """
        ...


class Backend(Protocol):
    """What the commands do, without the terminal."""

    def names(self, uri: str | None, which: Nameable) -> list[str]:
        """Names of domains, for a shell's completion: reads only, takes no lock, and is quick.

        :raise VirtcprError: if they can't be listed.
        """
        ...

    def list_domains(self, uri: str | None, domains: tuple[str, ...]) -> ListReport:
        """Look at ``domains``, or at all domains if it is empty.

        :raise VirtcprError: for an unknown domain, or a daemon that doesn't answer.
        """
        ...

    def check(self, request: Request) -> CheckReport:
        """Everything that stands in the way of moving these domains.

        :raise VirtcprError: for an unknown domain, or a daemon that doesn't answer.
        """
        ...

    def check_document(self, source: str, mode: Mode | None) -> CheckReport:
        """The findings on a domain's XML in a file; ``-`` is stdin.

        :raise VirtcprError: if it can't be read, or isn't a QEMU domain's XML.
        """
        ...

    def certify(self, request: Request, candidates: Candidates) -> CertifyReport:
        """Whether these guests could be moved to a build of QEMU that isn't installed, and back.

        :raise VirtcprError: for an unknown domain, a daemon that doesn't answer, a candidate that can't be run.
        """
        ...

    def plan(self, request: Request) -> PlanReport:
        """What ``open_upgrade(request).run`` would do now.

        :raise VirtcprError: for an unknown domain, a daemon that doesn't answer, an earlier swap that isn't settled.
        """
        ...

    def recover(self, uri: str | None, names: tuple[str, ...], *, dry_run: bool, start_daemon: bool) -> RecoverReport:
        """Settle the interrupted swaps of these domains, or of all if ``names`` is empty.

        :raise VirtcprError: if the host isn't in the state that this needs.
        """
        ...

    def hooks(self, action: HookAction) -> HookReport:
        """Install, remove, or look at libvirt's hooks.

        :raise VirtcprError: if that can't be done.
        """
        ...

    def prepare_document(
        self, source: str, mode: Mode, template: str | None, *, undo: bool, dry_run: bool
    ) -> PrepareReport:
        """Edit a domain's XML in a file, ``-`` is stdin; the report has the result.

        ``template`` is a name; None is the mode's own.

        :raise VirtcprError: if it can't be read, or isn't a QEMU domain's XML.
        """
        ...

    def open_readying(self, request: Request, done: PrepareReport) -> AbstractContextManager[MakingReady]:
        """Plan the moves of the running domains that were prepared, and aren't ready as they run; nothing is touched.

        :raise VirtcprError: as for ``open_upgrade``; the domains' XML is prepared then.
        """
        ...

    def open_preparation(
        self, request: Request, template: str | None, *, undo: bool
    ) -> AbstractContextManager[Preparation]:
        """Take the lock, look at the domains and edit in memory; nothing is touched.

        :raise VirtcprError: on entering: unknown domain, not root, a lock that is held, and the like.
        """
        ...

    def open_upgrade(self, request: Request) -> AbstractContextManager[Upgrade]:
        """Take the lock, probe and plan; nothing is touched.

        :raise VirtcprError: on entering: unknown domain, not root, a lock that is held, and the like.
        """
        ...

    def open_undo(self, request: Request, batch: int | None) -> AbstractContextManager[Undoing]:
        """As ``open_upgrade``, for the domains of a batch, None: of the last one, back to where they came from.

        :raise VirtcprError: on entering: no such batch, not root, a lock that is held, and the like.
        """
        ...

    def builds(self, uri: str | None, *, keep: bool) -> BuildsReport:
        """The builds that are kept for `undo`; with ``keep``, also what the running domains run in.

        :raise VirtcprError: for a daemon that doesn't answer, not root, a lock that is held.
        """
        ...

    def report(self, uri: str | None) -> HostReport:
        """What this host's domains run in, and how their moves went.

        :raise VirtcprError: for a daemon that doesn't answer, or if this user may not look.
        """
        ...

    def read_report(self, source: str) -> str:
        """The report of another host in a file; ``-`` is stdin.

        :raise VirtcprError: if it can't be read.
        """
        ...

    def write_page(self, path: str, page: str) -> None:
        """Write a page that all can read.

        :raise VirtcprError: if it can't be written; the file is as it was then.
        """
        ...

    def open_auto(self, uri: str | None, *, pending: bool, dry_run: bool) -> AbstractContextManager[Automatic]:
        """Read the configuration, look at the running domains and plan; nothing is touched.

        With ``pending``: only if a package manager noted an upgrade; waits until package managers are done.

        :raise VirtcprError: on entering: an invalid configuration, not root, and the like.
        """
        ...

    def history(self, uri: str | None, domains: tuple[str, ...], last: int | None) -> HistoryReport:
        """The moves of these names or UUIDs, or of all if ``domains`` is empty; only the ``last`` ones.

        :raise VirtcprError: if it can't be read.
        """
        ...

    def refresh(self, uri: str | None, exit_code: int | None) -> str | None:
        """Write Prometheus' file anew, if one is configured; returns why it wasn't written.  Raises nothing.

        ``exit_code`` is that of a command that changed what is in the file; None leaves the last one's there.
        """
        ...

    def open_save(self, request: Request) -> AbstractContextManager[Saving]:
        """Take the lock, look at the domains; nothing is touched.

        :raise VirtcprError: on entering: unknown domain, not root, a lock that is held, and the like.
        """
        ...

    def open_restore(self, request: Request, *, discard: bool) -> AbstractContextManager[Restoring]:
        """Take the lock, read what is saved; nothing is touched.  ``request.every`` is all that is saved.

        :raise VirtcprError: on entering: a domain that isn't saved, not root, a lock that is held, and the like.
        """
        ...
