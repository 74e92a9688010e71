"""``virtcpr check``: which domains can be moved, in which mode, and what the others need."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from virtcpr.cli import options
from virtcpr.cli.options import AnyDomain, DefinedOption, EmulatorOption, ModeChoice, XmlOption
from virtcpr.cli.session import Output, OutputOption, Session
from virtcpr.model import CheckReport


def check(
    ctx: typer.Context,
    domain: AnyDomain = None,
    every: DefinedOption = False,
    mode: Annotated[ModeChoice, typer.Option(help="The mode that matters for the exit code.")] = ModeChoice.AUTO,
    emulator: EmulatorOption = None,
    xml: XmlOption = None,
    output: OutputOption = Output.TABLE,
) -> CheckReport:
    """Show what stands in the way of moving a domain, and what helps.  Nothing is touched.

    The exit code is 4 if a domain is blocked in the mode that --mode names; auto is the mode that upgrade would use,
    transfer.  With --all, domains that don't run are shown, but don't count.  With --xml only the XML itself is
    checked.  With -v findings on modes that this version doesn't have are shown, too.
    """
    session: Session = ctx.obj
    session.output = output
    if xml is not None:
        options.refuse_beside_xml(session, domain, every, emulator)
        return session.backend.check_document(xml, mode.mode)
    return session.backend.check(replace(options.request(session, domain, every, emulator), mode=mode.mode))
