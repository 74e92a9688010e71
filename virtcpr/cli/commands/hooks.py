"""``virtcpr hooks``: scripts of virtcpr's that libvirt runs."""

from __future__ import annotations

import typer

from virtcpr.cli.session import Output, OutputOption, Session
from virtcpr.model import HookAction, HookReport

app = typer.Typer(
    help="libvirt's hooks: settle an interrupted swap before the daemon reads its records.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def install(ctx: typer.Context, output: OutputOption = Output.TABLE) -> HookReport:
    """Install virtcpr's hooks in /etc/libvirt/hooks; other files there aren't touched."""
    return _run(ctx, HookAction.INSTALL, output)


@app.command()
def remove(ctx: typer.Context, output: OutputOption = Output.TABLE) -> HookReport:
    """Remove virtcpr's hooks."""
    return _run(ctx, HookAction.REMOVE, output)


@app.command()
def status(ctx: typer.Context, output: OutputOption = Output.TABLE) -> HookReport:
    """Show which hooks are installed."""
    return _run(ctx, HookAction.STATUS, output)


def _run(ctx: typer.Context, action: HookAction, output: Output) -> HookReport:
    session: Session = ctx.obj
    session.output = output
    return session.backend.hooks(action)
