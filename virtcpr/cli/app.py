"""The program: global options, the commands, and the one place where exceptions become exit codes."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from virtcpr import __version__
from virtcpr.cli import completion, log
from virtcpr.cli.backend import Backend
from virtcpr.cli.commands import auto as auto_command
from virtcpr.cli.commands import builds as builds_command
from virtcpr.cli.commands import certify as certify_command
from virtcpr.cli.commands import check as check_command
from virtcpr.cli.commands import history as history_command
from virtcpr.cli.commands import hooks as hooks_command
from virtcpr.cli.commands import list as list_command
from virtcpr.cli.commands import plan as plan_command
from virtcpr.cli.commands import prepare as prepare_command
from virtcpr.cli.commands import recover as recover_command
from virtcpr.cli.commands import report as report_command
from virtcpr.cli.commands import restore as restore_command
from virtcpr.cli.commands import save as save_command
from virtcpr.cli.commands import undo as undo_command
from virtcpr.cli.commands import upgrade as upgrade_command
from virtcpr.cli.failure import INTERRUPTED, Failure
from virtcpr.cli.late import flags_first
from virtcpr.cli.output import json_report, render
from virtcpr.cli.output.text import ENCODING_ERRORS
from virtcpr.cli.real_backend import RealBackend
from virtcpr.cli.session import Output, Session
from virtcpr.errors import UsageError
from virtcpr.model import ExitCode, PrepareReport, Report

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("list")(list_command.list_domains)
app.command("check")(check_command.check)
app.command("prepare")(prepare_command.prepare)
app.command("plan")(plan_command.plan)
app.command("certify")(certify_command.certify)
app.command("upgrade")(upgrade_command.upgrade)
app.command("undo")(undo_command.undo)
app.command("auto")(auto_command.auto)
app.command("save")(save_command.save)
app.command("restore")(restore_command.restore)
app.command("recover")(recover_command.recover)
app.command("history")(history_command.history)
app.command("builds")(builds_command.builds)
app.command("report")(report_command.report)
app.add_typer(hooks_command.app, name="hooks")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"virtcpr {__version__}")
        raise typer.Exit


@app.callback()
def common(
    ctx: typer.Context,
    connect: Annotated[
        str | None,
        typer.Option(
            "-c",
            "--connect",
            metavar="URI",
            help="libvirt connection URI (local only).",
            autocompletion=completion.uris,
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Show no progress, and log errors only.")] = False,
    verbose: Annotated[
        int,
        typer.Option("-v", "--verbose", count=True, show_default=False, help="Log more; may be repeated."),
    ] = 0,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours (see also NO_COLOR).")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Move running libvirt domains onto an upgraded QEMU, in place, without rebooting them."""
    session: Session = ctx.obj
    session.command = ctx.invoked_subcommand
    if quiet and verbose:
        raise UsageError("--quiet and --verbose exclude each other")
    session.uri = connect
    session.verbosity = -1 if quiet else verbose
    session.no_color = no_color
    session.debug = debug
    log.set_up(session.verbosity)


def run(args: Sequence[str], backend: Backend | None = None) -> int:
    """Run one command line, or complete one for a shell; return the exit code.  Raises nothing."""
    _mend_streams()
    log.set_up()
    session = Session.begin(args, backend or RealBackend())
    try:
        if completion.asked():
            return completion.answer(app, session)
        outcome = typer.main.get_command(app).main(
            flags_first(args), prog_name="virtcpr", standalone_mode=False, obj=session
        )
        if outcome == INTERRUPTED:  # how newer releases of typer return a KeyboardInterrupt
            raise KeyboardInterrupt
        code = _finish(session, outcome)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        return _unread(ExitCode.FAILED)
    except (Exception, KeyboardInterrupt) as error:
        return _fail(session, error)


def _finish(session: Session, outcome: object) -> int:
    """Write a command's report to stdout; returns its exit code.

    If that fails, the exit code still says what happened to the guests.
    """
    if not isinstance(outcome, Report):
        return outcome if isinstance(outcome, int) else ExitCode.DONE  # --help and --version
    code = outcome.exit_code or ExitCode.FAILED
    try:
        _write(session, outcome)
    except BrokenPipeError:
        return _unread(code)
    except Exception as error:
        log.say(f"virtcpr: error: the result can't be written: {error}", log.ERROR)
        return _unread(code)
    return outcome.exit_code


def _write(session: Session, outcome: Report) -> None:
    """Write a document to stdout unchanged, and findings to stderr; render any other report."""
    match outcome:
        case PrepareReport(offline=True, dry_run=False) if session.output is Output.TABLE:
            if any(domain.findings for domain in outcome.domains):
                print(render.report(session, outcome), file=sys.stderr)
            sys.stdout.flush()
            sys.stdout.buffer.write((outcome.document or "").encode())  # in UTF-8, not the locale's encoding
            sys.stdout.flush()
        case _:
            print(render.report(session, outcome), flush=True)


def _fail(session: Session, error: BaseException) -> int:
    """Report an error on stderr, and with -o json on stdout, too; returns its exit code."""
    failed = Failure.of(error)
    if session.debug:
        import traceback

        log.say("".join(traceback.format_exception(error)).rstrip(), log.DEBUG)
    log.say(failed.text(), log.ERROR)
    if session.output is Output.JSON:
        try:
            print(json_report.failure(session.command, failed), flush=True)
        except OSError:
            return _unread(failed.exit_code)
    return failed.exit_code


def _unread(code: int) -> int:
    """The reader of stdout has ended (``| head``): keep Python from reporting that at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _mend_streams() -> None:
    """Replace closed streams by /dev/null, before a socket gets their number; escape what the others can't encode."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ENCODING_ERRORS)
