"""``prepare``: edit persistent XML so that the domain can be upgraded after its next boot; undo that edit."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from virtcpr.actions.inspect.probe import Probe
from virtcpr.actions.inspect.selection import chosen
from virtcpr.domain import secrets
from virtcpr.domain.edit.document import parse_domain
from virtcpr.domain.edit.prepare import Edited, prepare, recorded, templates, undo
from virtcpr.domain.facts import DomainFacts
from virtcpr.domain.live import LiveDomain
from virtcpr.errors import HostError, ParseError, VirtcprError
from virtcpr.host.files.atomic import keep, read_document
from virtcpr.host.files.templates import Template, template
from virtcpr.host.libvirt.connection import Connection, Domain
from virtcpr.host.processes.interrupt import Interrupt
from virtcpr.host.system.lock import Lock
from virtcpr.host.system.paths import NOT_ROOT, PATHS, may_act
from virtcpr.model import ExitCode, Finding, Mode, PreparedDomain, PrepareReport, Readying, Request, Severity
from virtcpr.plan.findings.prepare_rules import FILE_TAKEN, preparing
from virtcpr.plan.findings.rule import blocks
from virtcpr.plan.outcome import exit_code

BACKUPS = PATHS.state / "xml"


@dataclass(frozen=True)
class Edit:
    """The edit of a document: prepare it for a mode, or undo that."""

    mode: Mode
    undo: bool
    template: Template  # unused by undo

    @classmethod
    def of(cls, mode: Mode, name: str | None, *, undo: bool) -> Edit:
        """Raises UsageError if the mode has no such template, HostError if the template can't be read."""
        return cls(mode, undo, Template("", "", "") if undo else template(mode.value, name))

    def apply(self, text: str) -> Edited:
        """Raises ParseError."""
        if self.undo:
            return undo(text)
        parse_domain(text)  # so that errors in the XML aren't blamed on the template
        try:
            return prepare(text, self.template.text, self.mode.value, self.template.name)
        except ParseError as error:
            raise ParseError(f"{error.message} (template {self.template.path})", hint=error.hint) from error

    def left_undone(self, text: str) -> str:
        """The parts of this edit that a document lacks; empty if the edit is complete.  Raises ParseError."""
        mode = recorded(text)
        if self.undo:
            return "the record of what prepare changed" if mode else ""
        noted = mode == self.mode.value and self.template.name in templates(text)
        missing = [*self.apply(text).changes, *([] if noted else ["the record of what was changed"])]
        return "; ".join(missing)

    def findings(self, facts: DomainFacts, edited: str) -> tuple[Finding, ...]:
        return () if self.undo else preparing(facts, self.mode, self.template.name, edited)

    @property
    def result(self) -> Readying:
        return Readying.RESTORED if self.undo else Readying.PREPARED


def prepare_document(source: str, mode: Mode, name: str | None, *, undo: bool, dry_run: bool) -> PrepareReport:
    """Edit the XML in a file (``-``: stdin).  The report has the result, nothing is written.  ``name``: the template.

    Raises UsageError, HostError and ParseError.
    """
    edit, text = Edit.of(mode, name, undo=undo), read_document(source)
    edited = edit.apply(text)
    looked = _looked(edit, DomainFacts.of_document(text), edited, text)
    blocked = looked.result is Readying.BLOCKED
    return PrepareReport(
        (looked,),
        ExitCode.BLOCKED if blocked else ExitCode.DONE,
        dry_run=dry_run,
        offline=True,
        document=None if blocked else edited.text,
    )


def _looked(edit: Edit, facts: DomainFacts, edited: Edited, before: str) -> PreparedDomain:
    """The outlook for a domain; ``before`` is its XML without secrets."""
    findings = edit.findings(facts, edited.text)
    result = edit.result if edited.changes else Readying.UNCHANGED
    if blocks(findings, edit.mode):
        return PreparedDomain(facts.name, facts.uuid, Readying.BLOCKED, findings=findings)
    return PreparedDomain(
        name=facts.name,
        uuid=facts.uuid,
        result=result,
        changes=edited.changes,
        kept=edited.kept,
        diff=_diff(facts.name or "domain", before, edited.text),
        findings=findings,
        running=facts.id is not None,
    )


def _diff(name: str, before: str, after: str) -> str:
    old, new = (secrets.masked(text).splitlines() for text in (before, after))
    return "\n".join(difflib.unified_diff(old, new, f"{name}.xml", f"{name}.xml, edited", lineterm=""))


@dataclass
class _Task:
    """A domain, its XML before and after the edit, and its report."""

    domain: Domain
    before: str
    after: str
    report: PreparedDomain


@contextmanager
def open_preparation(request: Request, name: str | None, *, undo: bool) -> Iterator[Preparation]:
    """Look at every domain, and edit in memory.  Nothing is touched.  ``name``: the template.

    Raises UsageError for an unknown domain or template, HostError if the host isn't ready.
    """
    if not may_act(request.uri):
        raise HostError("only root can change domains", hint=NOT_ROOT)
    edit = Edit.of(request.mode or Mode.TRANSFER, name, undo=undo)
    with Connection(request.uri) as connection:
        yield Preparation(connection, edit, request)


class Preparation:
    """A batch that is ready to be written.  ``outlooks`` is what ``run`` would do."""

    def __init__(self, connection: Connection, edit: Edit, request: Request) -> None:
        self.connection = connection
        self.edit = edit
        self.probe = Probe()
        self._tasks = [self._look(domain) for domain in chosen(connection, request, running=False)]
        if not edit.undo:
            self._part_files()

    @property
    def outlooks(self) -> tuple[PreparedDomain, ...]:
        return tuple(task.report for task in self._tasks)

    def report(self, *, dry_run: bool = False) -> PrepareReport:
        reports = self.outlooks
        return PrepareReport(reports, exit_code({report.result for report in reports}), dry_run=dry_run)

    def _look(self, domain: Domain) -> _Task:
        """An error becomes a finding of this domain: it isn't raised."""
        try:
            facts = self.probe.stored(domain)
            if facts.persistent_xml is None:
                findings = self.edit.findings(facts, facts.xml) or (
                    _failure("the domain is transient: there is nothing to undo"),
                )
                return _Task(domain, "", "", _blocked(domain, findings))
            edited = self.edit.apply(facts.xml)
            facts = replace(facts, ram_devices=self.probe.ram_devices(LiveDomain.of(edited.text)))
            return _Task(domain, facts.xml, edited.text, _looked(self.edit, facts, edited, facts.xml))
        except VirtcprError as error:
            return _Task(domain, "", "", _blocked(domain, (_failure(error.message),)))

    def _part_files(self) -> None:
        """Block domains whose RAM file another domain already uses in its QEMU arguments.

        Within this batch, the first domain gets the file.  A directory can be shared.
        """
        changing = [task for task in self._tasks if task.report.result is Readying.PREPARED]
        wanted = {task.domain.uuid: _ram_files(task.after) for task in changing}
        if not any(wanted.values()):
            return
        taken = dict[tuple[str, str], str]()
        for other in self.connection.domains(running=False):
            if other.uuid not in wanted:
                running = frozenset() if other.id is None else _ram_files(other.xml())
                taken |= dict.fromkeys(_ram_files(other.stored_xml()) | running, other.name)
        for task in changing:
            files = wanted[task.domain.uuid]
            if clashes := sorted(files & taken.keys()):
                name = task.domain.name
                findings = [FILE_TAKEN.finding(name, {"path": file[0], "other": taken[file]}) for file in clashes]
                task.report = _blocked(task.domain, (*task.report.findings, *findings))
            else:
                taken |= dict.fromkeys(files, task.domain.name)

    def run(self) -> PrepareReport:
        """Back up and write each domain by itself; verify that libvirt accepted all of it.

        A domain keeps its XML if libvirt refuses the new XML, or if the domain was changed since.  After a signal, the
        current domain is finished and the others aren't changed.  Raises HostError if another virtcpr is running.
        """
        with Lock(), Interrupt() as interrupt:
            for task in self._tasks:
                if task.report.result not in (Readying.PREPARED, Readying.RESTORED):
                    continue
                if interrupt.requested:
                    failure = _failure("interrupted before its turn; nothing was written", "try again")
                    task.report = replace(
                        task.report, result=Readying.FAILED, findings=(*task.report.findings, failure)
                    )
                else:
                    task.report = self._write(task)
        return replace(self.report(), interrupted=interrupt.requested)

    def _write(self, task: _Task) -> PreparedDomain:
        report = task.report
        try:
            moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
            backup = keep(BACKUPS, f"{task.domain.uuid}-{moment}.xml", task.before)
            _refuse_changed(task, backup)
            report = replace(report, backup=str(backup))
            self.connection.define(task.after)
            self._verify(task, backup)
        except VirtcprError as error:
            failure = _failure(error.message, error.hint)
            return replace(report, result=Readying.FAILED, findings=(*report.findings, failure))
        return report

    def _verify(self, task: _Task, backup: Path) -> None:
        """libvirt ignores unknown elements: read the XML back, and restore the old XML if it lacks a change.

        Raises HostError, which says which XML is in use.
        """
        put_back = f"virsh define {backup}"
        try:
            left = self.edit.left_undone(task.domain.stored_xml())
        except VirtcprError as error:
            raise HostError(f"the new XML is in use, but can't be read back: {error.message}", hint=put_back) from error
        if not left:
            return
        try:
            self.connection.define(task.before)
        except HostError as error:
            raise HostError(
                f"libvirt didn't accept all changes ({left}), and the old XML can't be restored", hint=put_back
            ) from error
        raise HostError(f"libvirt didn't accept all changes ({left}); the old XML was restored")


def _refuse_changed(task: _Task, backup: Path) -> None:
    """As late as possible: it may have been edited or undefined while the user was asked.

    Raises HostError.  No backup is left then: it has secrets, and nobody needs it.
    """
    try:
        if task.domain.persistent_xml() is None or task.domain.stored_xml() != task.before:
            raise HostError("its XML was changed meanwhile; nothing was written", hint="try again")
    except HostError:
        with suppress(OSError):
            backup.unlink()
        raise


def _blocked(domain: Domain, findings: tuple[Finding, ...]) -> PreparedDomain:
    return PreparedDomain(domain.name, domain.uuid, Readying.BLOCKED, findings=findings, running=domain.id is not None)


def _ram_files(xml: str) -> frozenset[tuple[str, str]]:
    return frozenset(file for file in LiveDomain.of(xml).ram_files() if not Path(file[0]).is_dir())


def _failure(message: str, hint: str | None = None) -> Finding:
    return Finding("prepare", Severity.BLOCKER, message, hint or "look at the domain with 'virsh dumpxml --inactive'")
