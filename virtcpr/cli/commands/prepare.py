"""``virtcpr prepare``: make domains ready to be moved, from their next boot on."""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer

from virtcpr.cli import interaction, options
from virtcpr.cli.options import AnyDomain, DefinedOption, TemplateOption, XmlOption, YesOption
from virtcpr.cli.output import render
from virtcpr.cli.output.text import count
from virtcpr.cli.session import Output, OutputOption, Session
from virtcpr.errors import UsageError
from virtcpr.model import ExitCode, Mode, PreparedDomain, PrepareReport, Readying


class PrepareMode(StrEnum):
    """``--mode``: the modes that have a template."""

    TRANSFER = "transfer"
    REBOOT = "reboot"


def prepare(
    ctx: typer.Context,
    domain: AnyDomain = None,
    every: DefinedOption = False,
    mode: Annotated[PrepareMode, typer.Option(help="What to make them ready for.")] = PrepareMode.TRANSFER,
    template: TemplateOption = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Make running domains ready at once, by mode live; none is restarted."),
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take back what prepare changed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the change, and write nothing.")] = False,
    xml: XmlOption = None,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> PrepareReport:
    """Change the persistent XML of domains so that their next boot can be moved.

    For the mode transfer: shared RAM, aux-ram-share=on, no boot ROMs.  For reboot: RAM in a file that has a name, so
    that it stays in place; --template reboot-dax puts it on a DAX device.  A domain can be made ready for both.

    The change is shown first, and asked about.  It takes effect when the domain is shut down and started; with --live
    running domains are made ready at once, in the installed QEMU: their RAM is copied while they run.  Templates
    in xml-templates say what is ensured.  The domain's metadata records the changes; --undo takes all of them back.
    With --xml the new XML is written to stdout, and libvirt isn't needed.
    """
    session: Session = ctx.obj
    session.output = output
    if undo and template is not None:
        hint = f"try: virtcpr {session.command} --help"
        raise UsageError("--undo takes back the changes of any template: leave out --template", hint=hint)
    if live and (undo or dry_run or xml is not None or mode is not PrepareMode.TRANSFER):
        raise UsageError(
            "--live is for mode transfer, and for domains that are to be changed now",
            hint="'virtcpr plan --mode live --force DOMAIN' shows what it would do with a running one",
        )
    if xml is not None:
        options.refuse_beside_xml(session, domain, every, yes)
        return session.backend.prepare_document(xml, Mode(mode.value), template, undo=undo, dry_run=dry_run)
    request = replace(options.request(session, domain, every), mode=Mode(mode.value))
    with session.backend.open_preparation(request, template, undo=undo) as prepared:
        if dry_run:
            return prepared.report(dry_run=True)
        able = (Readying.PREPARED, Readying.UNCHANGED)
        running = sum(one.running and one.result in able for one in prepared.outlooks) if live else 0
        if not yes and not _agreed(session, prepared.outlooks, running):
            return PrepareReport((), ExitCode.DONE, notes=("nothing done",))
        report = prepared.run()
    if not running:
        return report
    names = tuple(domain.name for domain in report.domains if domain.running)
    return interaction.watched(
        session, names, lambda watch: session.backend.make_ready(request, report, watch), what="the move"
    )


def _agreed(session: Session, outlooks: tuple[PreparedDomain, ...], running: int) -> bool:
    """Show the changes and ask; without changes there is no question.  ``running``: how many are made ready at once.

    :raise UsageError: if there is no terminal to ask on.
    """
    changing = sum(outlook.result in (Readying.PREPARED, Readying.RESTORED) for outlook in outlooks)
    if not changing and not running:
        return True
    if not session.can_ask():
        raise UsageError("there is no terminal to ask on", hint="--yes goes ahead without asking, --dry-run only shows")
    question = f"Change {count(changing, 'domain')} now?"
    if running:
        question += f" {count(running, 'domain')} running: each that isn't ready is moved, the daemon away meanwhile."
    sys.stderr.write(f"{render.changes(session, outlooks, sys.stderr)}\n{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
