"""``virtcpr builds``: the builds of QEMU that are kept for ``undo``."""

from __future__ import annotations

from typing import Annotated

import typer

from virtcpr.cli.session import Output, OutputOption, Session
from virtcpr.model import BuildsReport


def builds(
    ctx: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", help="First keep what the running domains run in now.")] = False,
    output: OutputOption = Output.TABLE,
) -> BuildsReport:
    """Show the builds of QEMU that are kept, so that `virtcpr undo` can move guests back to them.

    Whatever moves guests keeps what they leave.  With --keep, before an upgrade of packages, a build is kept with its
    own firmware, too.  keep.builds and keep.days in virtcpr.toml say how many, and for how long.
    """
    session: Session = ctx.obj
    session.output = output
    return session.backend.builds(session.uri, keep=keep)
