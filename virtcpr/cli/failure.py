"""A common form for every failure of a whole command."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

import typer

from virtcpr.cli.output.text import visible_lines
from virtcpr.errors import UsageError, VirtcprError
from virtcpr.model import ExitCode

INTERRUPTED = 130

# typer's own errors, reached through a name that it exports: newer releases carry click inside.
_TYPER_ERROR, _TYPER_USAGE = (
    next(parent for parent in typer.BadParameter.__mro__ if parent.__name__ == name)
    for name in ("ClickException", "UsageError")
)


@dataclass(frozen=True)
class Failure:
    """What ends a command: a stable ``code``, a message, what to do next, the exit code (130: interrupt)."""

    code: str
    message: str
    hint: str | None
    exit_code: int

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The failure for any exception: virtcpr's own, typer's, an interrupt, or a defect."""
        if isinstance(error, VirtcprError):
            return cls(error.code, error.message, error.hint, error.exit_code)
        if isinstance(error, KeyboardInterrupt | typer.Abort):
            return cls("interrupted", "interrupted", None, INTERRUPTED)
        if isinstance(error, _TYPER_USAGE):
            context = getattr(error, "ctx", None)
            path = context.command_path if context else "virtcpr"
            return cls(UsageError.code, _words(error), f"{_meant(error)}try: {path} --help", ExitCode.USAGE)
        if isinstance(error, _TYPER_ERROR):
            return cls(VirtcprError.code, _words(error), None, ExitCode.FAILED)
        message = f"internal error: {type(error).__name__}: {error}"
        hint = "this is a defect of virtcpr: please report it with what --debug shows"
        return cls("internal", message, hint, ExitCode.FAILED)

    def text(self) -> str:
        """``virtcpr: error: MESSAGE``, and the hint under it, indented."""
        first, *rest = visible_lines(self.message) or [self.code]
        more = [f"  {line}" for line in [*rest, *visible_lines(self.hint or "")]]
        return "\n".join([f"virtcpr: error: {first}", *more])


def _meant(error: BaseException) -> str:
    """``did you mean CHOICE?`` for a command that doesn't exist, unless typer says so itself, as newer releases do."""
    context = getattr(error, "ctx", None)
    commands = getattr(context.command, "commands", {}) if context else {}
    wrong = re.search(r"No such command '(.*?)'", _words(error))
    if wrong is None or "Did you mean" in _words(error):
        return ""
    near = get_close_matches(wrong[1], list(commands), 1)
    return f"did you mean {near[0]}? " if near else ""


def _words(error: BaseException) -> str:
    """typer's message with its parameter, which str() leaves out."""
    return str(getattr(error, "format_message", error.__str__)())
