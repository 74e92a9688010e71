"""The only way from the command line to the layers below.

These layers are imported on first use: ``virtcpr --help`` loads neither libvirt nor lxml nor asyncio.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from virtcpr.cli.backend import Automatic, MakingReady, Nameable, Preparation, Restoring, Saving, Undoing, Upgrade
from virtcpr.model import (
    BuildsReport,
    Candidates,
    CertifyReport,
    CheckReport,
    HistoryReport,
    HookAction,
    HookReport,
    HostReport,
    ListReport,
    Mode,
    PlanReport,
    PrepareReport,
    RecoverReport,
    Request,
)


class RealBackend:
    """The real one."""

    def names(self, uri: str | None, which: Nameable) -> list[str]:
        from virtcpr.actions.completion import names

        return names(uri, which)

    def list_domains(self, uri: str | None, domains: tuple[str, ...]) -> ListReport:
        from virtcpr.actions.list import list_domains

        return list_domains(uri, domains)

    def check(self, request: Request) -> CheckReport:
        from virtcpr.actions.check import check

        return check(request)

    def check_document(self, source: str, mode: Mode | None) -> CheckReport:
        from virtcpr.actions.check import check_document

        return check_document(source, mode)

    def certify(self, request: Request, candidates: Candidates) -> CertifyReport:
        from virtcpr.actions.certify import certify

        return certify(request, candidates)

    def plan(self, request: Request) -> PlanReport:
        from virtcpr.actions.plan import plan

        return plan(request)

    def recover(self, uri: str | None, names: tuple[str, ...], *, dry_run: bool, start_daemon: bool) -> RecoverReport:
        from virtcpr.actions.recover import recover

        return recover(names, uri=uri, dry_run=dry_run, start_daemon=start_daemon)

    def hooks(self, action: HookAction) -> HookReport:
        from virtcpr.actions.hooks import run

        return run(action)

    def prepare_document(
        self, source: str, mode: Mode, template: str | None, *, undo: bool, dry_run: bool
    ) -> PrepareReport:
        from virtcpr.actions.prepare import prepare_document

        return prepare_document(source, mode, template, undo=undo, dry_run=dry_run)

    def open_preparation(
        self, request: Request, template: str | None, *, undo: bool
    ) -> AbstractContextManager[Preparation]:
        from virtcpr.actions.prepare import open_preparation

        return open_preparation(request, template, undo=undo)

    def open_readying(self, request: Request, done: PrepareReport) -> AbstractContextManager[MakingReady]:
        from virtcpr.actions.prepare_live import open_readying

        return open_readying(request, done)

    def open_upgrade(self, request: Request) -> AbstractContextManager[Upgrade]:
        from virtcpr.actions.upgrade import open_upgrade

        return open_upgrade(request)

    def open_undo(self, request: Request, batch: int | None) -> AbstractContextManager[Undoing]:
        from virtcpr.actions.undo import open_undo

        return open_undo(request, batch)

    def builds(self, uri: str | None, *, keep: bool) -> BuildsReport:
        from virtcpr.actions.builds import report

        return report(uri, keep=keep)

    def report(self, uri: str | None) -> HostReport:
        from virtcpr.actions.report import report

        return report(uri)

    def read_report(self, source: str) -> str:
        from virtcpr.actions.report import read

        return read(source)

    def write_page(self, path: str, page: str) -> None:
        from virtcpr.actions.report import write

        write(path, page)

    def open_auto(self, uri: str | None, *, pending: bool, dry_run: bool) -> AbstractContextManager[Automatic]:
        from virtcpr.actions.auto.run import open_auto

        return open_auto(uri, pending=pending, dry_run=dry_run)

    def history(self, uri: str | None, domains: tuple[str, ...], last: int | None) -> HistoryReport:
        from virtcpr.actions.history import report

        return report(uri, domains, last)

    def refresh(self, uri: str | None, exit_code: int | None) -> str | None:
        from virtcpr.actions.auto.prometheus import refresh

        return refresh(uri, exit_code)

    def open_save(self, request: Request) -> AbstractContextManager[Saving]:
        from virtcpr.actions.save import open_save

        return open_save(request)

    def open_restore(self, request: Request, *, discard: bool) -> AbstractContextManager[Restoring]:
        from virtcpr.actions.restore import open_restore

        return open_restore(request, discard=discard)
