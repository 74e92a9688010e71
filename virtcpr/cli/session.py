"""What the global options say, for the command that runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, TextIO

import typer

from virtcpr.cli.backend import Backend

COMMANDS = ("list", "check", "prepare", "plan", "upgrade", "auto", "save", "restore", "recover", "history", "hooks")
_OUTPUT = ("-o", "--output", "-yo")
_WITH_VALUE = (*_OUTPUT, "-c", "--connect", "--emulator", "--parallel", "--mode", "--xml", "-n", "--lines")


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
    """One run of the program.  ``verbosity`` is -1 for quiet, else how often ``-v`` was given."""

    backend: Backend
    command: str | None = None
    output: Output = Output.TABLE
    uri: str | None = None
    verbosity: int = 0
    no_color: bool = False
    debug: bool = False

    @classmethod
    def begin(cls, args: Sequence[str], backend: Backend) -> Session:
        """A session that knows, before the command line is parsed, how to report that it can't be parsed."""
        command, output = foresee(args)
        return cls(backend, command, output)

    def terminal(self, stream: TextIO) -> bool:
        """Whether ``stream`` is a terminal that can move its cursor."""
        return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "")

    def colors(self, stream: TextIO) -> bool:
        """Whether to colour what goes to ``stream`` (see no-color.org)."""
        return self.terminal(stream) and not self.no_color and not os.environ.get("NO_COLOR")

    def can_ask(self) -> bool:
        """Whether somebody can read a question on stderr and answer it on stdin."""
        return sys.stdin.isatty() and sys.stderr.isatty()


def foresee(args: Sequence[str]) -> tuple[str | None, Output]:
    """The command and the output that ``args`` mean, as far as can be told without parsing them in full."""
    command, output = None, Output.TABLE
    words = iter(args)
    for word in words:
        if word == "--":
            break
        value = _output_value(word)
        if word in _WITH_VALUE:
            following = next(words, "")
            value = following if word in _OUTPUT else None
        elif command is None and word in COMMANDS:
            command = word
        if value is not None:
            output = Output.JSON if value == Output.JSON else Output.TABLE
    return command, output


def _output_value(word: str) -> str | None:
    """``json`` of ``--output=json``, ``-ojson`` and ``-yojson``."""
    if word.startswith("--output="):
        return word.removeprefix("--output=")
    flags, found, value = word.partition("o")
    return value if found and value and flags in ("-", "-y") else None
