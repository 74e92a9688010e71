"""``virtcpr prepare``: make domains ready to be moved, from their next boot on."""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer

from virtcpr.cli import interaction, options
from virtcpr.cli.moving import to_move
from virtcpr.cli.options import AnyDomain, DefinedOption, TemplateOption, XmlOption, YesOption
from virtcpr.cli.output import render
from virtcpr.cli.output.text import count
from virtcpr.cli.session import Output, OutputOption, Session
from virtcpr.errors import UsageError
from virtcpr.model import ExitCode, Mode, PreparedDomain, PrepareReport, Readying, Request

MODE_HELP = "What to make them ready for; with --live, reboot: by way of a file, not by a second copy of RAM."


class PrepareMode(StrEnum):
    """``--mode``: the modes that have a template."""

    TRANSFER = "transfer"
    REBOOT = "reboot"


def prepare(
    ctx: typer.Context,
    domain: AnyDomain = None,
    every: DefinedOption = False,
    mode: Annotated[PrepareMode, typer.Option(help=MODE_HELP)] = PrepareMode.TRANSFER,
    template: TemplateOption = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Make running domains ready for mode transfer at once; none is restarted."),
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

    The change is shown first, and asked about.  It takes effect when the domain is shut down and started.  With --live
    running domains are made ready for mode transfer at once, in the installed QEMU: their RAM is copied while they run;
    with --mode reboot it is written to a file and read from there, while they are paused.  Templates in xml-templates
    say what is ensured.  The domain's metadata records the changes; --undo takes all of them back.
    With --xml the new XML is written to stdout, and libvirt isn't needed.
    """
    session: Session = ctx.obj
    session.output = output
    if undo and template is not None:
        hint = f"try: virtcpr {session.command} --help"
        raise UsageError("--undo takes back the changes of any template: leave out --template", hint=hint)
    if live and (undo or dry_run or xml is not None):
        raise UsageError(
            "--live is for domains that are to be changed now",
            hint="'virtcpr plan --mode live --force DOMAIN' shows what it would do with a running one",
        )
    if xml is not None:
        options.refuse_beside_xml(session, domain, every, yes)
        return session.backend.prepare_document(xml, Mode(mode.value), template, undo=undo, dry_run=dry_run)
    request = replace(options.request(session, domain, every), mode=Mode.TRANSFER if live else Mode(mode.value))
    with session.backend.open_preparation(request, template, undo=undo) as prepared:
        if dry_run:
            return prepared.report(dry_run=True)
        if not yes and not _agreed(session, prepared.outlooks):
            return PrepareReport((), ExitCode.DONE, notes=("nothing done",))
        report = prepared.run()
    if not live:
        return report
    moving = replace(request, mode=Mode.REBOOT if mode is PrepareMode.REBOOT else Mode.LIVE)
    report = _make_ready(session, moving, report, yes=yes)
    session.backend.refresh(session.uri, report.exit_code)
    return report


def _make_ready(session: Session, request: Request, report: PrepareReport, *, yes: bool) -> PrepareReport:
    """Ask, and move the running domains that aren't ready."""
    with session.backend.open_readying(request, report) as planned:
        if not yes and not to_move(session, planned, request.mode):
            return replace(report, notes=(*report.notes, "no running domain was moved"))
        names = tuple(outlook.name for outlook in planned.outlooks if outlook.moves)
        return interaction.watched(session, names, planned.run, what="the move")


def _agreed(session: Session, outlooks: tuple[PreparedDomain, ...]) -> bool:
    """Show the changes and ask; without changes there is no question.

    :raise UsageError: if there is no terminal to ask on.
    """
    changing = sum(outlook.result in (Readying.PREPARED, Readying.RESTORED) for outlook in outlooks)
    if not changing:
        return True
    if not session.can_ask():
        raise UsageError("there is no terminal to ask on", hint="--yes goes ahead without asking, --dry-run only shows")
    question = f"Change {count(changing, 'domain')} now?"
    sys.stderr.write(f"{render.changes(session, outlooks, sys.stderr)}\n{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
