"""``virtcpr certify``: could the guests go to a QEMU that isn't installed?"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from virtcpr.cli import completion, options, waves
from virtcpr.cli.options import AllOption, AnyDomain, AvailableMode
from virtcpr.cli.session import Output, OutputOption, Session
from virtcpr.cli.waves import ExcludeOption
from virtcpr.errors import UsageError
from virtcpr.model import Candidates, CertifyReport


def certify(
    ctx: typer.Context,
    domain: AnyDomain = None,
    every: AllOption = False,
    emulator: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="The candidate: a QEMU on this host.",
            show_default=False,
            autocompletion=completion.emulators,
        ),
    ] = None,
    package: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="The candidate: Debian packages; repeat it for each file, those that QEMU needs included.",
            show_default=False,
        ),
    ] = None,
    archive: Annotated[
        bool, typer.Option("--from-archive", help="The candidate: what apt would upgrade the installed QEMU to.")
    ] = False,
    exclude: ExcludeOption = None,
    defined: Annotated[
        bool,
        typer.Option("--defined", help="With --all: also domains that don't run, as libvirt would start them now."),
    ] = False,
    mode: Annotated[
        AvailableMode,
        typer.Option("--mode", help="How they would be moved; auto is the first mode that each is ready for."),
    ] = AvailableMode.AUTO,
    output: OutputOption = Output.TABLE,
) -> CertifyReport:
    """Find out whether guests could be moved to a QEMU that isn't installed, and back.

    A twin of each shape of guest tries it, as before a move; packages are unpacked beside the installed ones, and
    removed afterwards.  No guest is touched, nothing is installed.  The exit code is 4 if a guest couldn't be moved, 3
    if that isn't known of one.
    """
    session: Session = ctx.obj
    session.output = output
    candidates = Candidates(emulator, tuple(package or ()), archive)
    if sum(map(bool, (emulator, package, archive))) != 1:
        raise UsageError(
            "which QEMU? Give one of --emulator, --package and --from-archive", hint="try: virtcpr certify --help"
        )
    if defined and not every:
        raise UsageError("--defined goes with --all; a domain that is named needn't run")
    request = options.request(session, domain, every)
    request = replace(request, mode=mode.mode, defined=defined, exclude=waves.exclude(exclude, every=every))
    return session.backend.certify(request, candidates)
