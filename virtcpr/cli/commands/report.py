"""``virtcpr report``: what the guests of a host run in, and how their moves went, as one page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from virtcpr.cli.backend import Backend
from virtcpr.cli.output import json_report
from virtcpr.cli.session import Output, OutputOption, Session
from virtcpr.errors import ParseError, UsageError
from virtcpr.model import HostReport

HINT = "on each host: virtcpr report -o json > FILE"


def report(
    ctx: typer.Context,
    file: Annotated[
        list[str] | None,
        typer.Argument(
            help="Reports of other hosts, as `virtcpr report -o json` writes them; this host if none is given.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        str | None,
        typer.Option(
            "--html", metavar="FILE", help="Write a page to this file, which all can read.", show_default=False
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> HostReport | None:
    """Show which builds of QEMU guests run in, what was fixed since, and how moves went.

    The page of --html needs no other file and no network.  Which CVEs were fixed since a build is read in the changelog
    of the installed package, if that is Debian's.
    """
    session: Session = ctx.obj
    session.output = output
    if file and not html:
        raise UsageError("reports of other hosts make a page", hint="give --html FILE")
    found = None if file else session.backend.report(session.uri)
    if html:
        from virtcpr.cli.output.page import page

        hosts = [json_report.document(found)] if found else list(_read(session.backend, file or ()))
        session.backend.write_page(html, page(hosts))
    return found


def _read(backend: Backend, files: Iterable[str]) -> Iterable[Mapping[str, Any]]:
    from jinja2 import TemplateError

    from virtcpr.cli.output.page import page

    for file in files:
        try:
            document = json.loads(backend.read_report(file))
        except ValueError as error:
            raise ParseError(f"{file} isn't JSON: {error}", hint=HINT) from error
        if not isinstance(document, dict) or (document.get("schema"), document.get("command")) != (1, "report"):
            raise ParseError(f"{file} isn't a report of virtcpr's", hint=HINT)
        if "error" in document:
            raise ParseError(f"{file} only says why there is no report", hint=HINT)
        try:
            page([document])
        except (TemplateError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise ParseError(f"{file} isn't a report of virtcpr's: {error}", hint=HINT) from error
        yield document
