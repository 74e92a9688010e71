"""The global options, for the command that runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, TextIO

import typer

from virtcpr.cli.backend import Backend


class Output(StrEnum):
    """What is written to stdout."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[
    Output,
    typer.Option("-o", "--output", show_default=False, help="What to write to stdout; table by default."),
]


@dataclass
class Session:
    """One run of the program.

    ``command`` is set once its name is parsed; ``verbosity`` is -1 for quiet, else how often ``-v`` was given.
    """

    backend: Backend
    command: str | None = None
    output: Output = Output.TABLE
    uri: str | None = None
    verbosity: int = 0
    no_color: bool = False
    debug: bool = False

    @classmethod
    def begin(cls, args: Sequence[str], backend: Backend) -> Session:
        """A session that can report errors in the command line: it knows the output before that is parsed."""
        return cls(backend, output=foresee(args))

    def terminal(self, stream: TextIO) -> bool:
        """Whether ``stream`` is a terminal that can move its cursor."""
        return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "")

    def colors(self, stream: TextIO) -> bool:
        """Whether to colour what goes to ``stream`` (see no-color.org)."""
        return self.terminal(stream) and not self.no_color and not os.environ.get("NO_COLOR")

    def can_ask(self) -> bool:
        """Whether somebody can read a question on stderr and answer it on stdin."""
        return sys.stdin.isatty() and sys.stderr.isatty()


_early = typer.Typer(add_completion=False)


@_early.command(add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def _options(
    connect: Annotated[str | None, typer.Option("-c", "--connect")] = None, output: OutputOption = Output.TABLE
) -> None:
    """Options to find in an invalid command line: the output, and a URI, whose letters aren't options."""


def foresee(args: Sequence[str]) -> Output:
    """The output that ``args`` ask for, as far as typer can tell without knowing the command."""
    context = typer.main.get_command(_early).make_context("virtcpr", list(args), resilient_parsing=True)
    return Output.JSON if context.params.get("output") == Output.JSON else Output.TABLE
