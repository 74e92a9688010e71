"""Shell completion: typer's own, and the names of domains.

It runs at every press of a key: it never writes to stderr, changes or locks anything, and it offers only what is known
at once.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import typer
from typer.completion import completion_init, get_completion_script  # type: ignore[attr-defined, unused-ignore]

from virtcpr.cli.backend import Nameable
from virtcpr.cli.session import Session

VARIABLE = "_VIRTCPR_COMPLETE"
WORDS, CURRENT = "COMP_WORDS", "COMP_CWORD"  # from the shell, by typer's script
# A shell splits other names, and zsh would even run code in them (typer's script evaluates its candidates).
HARMLESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@=,-]*")
EMULATORS = "/usr/bin/qemu-system-"

Completer = Callable[[typer.Context, str], list[str]]


def asked() -> bool:
    """Whether a shell runs this program for completion, or for the completion script."""
    return VARIABLE in os.environ


def answer(app: typer.Typer, session: Session) -> int:
    """Write the shell's answer to stdout; returns the exit code, which fish uses."""
    instruction, _, shell = os.environ[VARIABLE].partition("_")
    if instruction == "source":
        return _write_script(shell)
    completion_init()
    begun = _join_words()
    logging.disable(logging.CRITICAL)
    offered = StringIO()
    try:
        with redirect_stdout(offered):
            typer.main.get_command(app).main([], prog_name="virtcpr", standalone_mode=False, obj=session)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except Exception:
        return 1
    finally:
        logging.disable(logging.NOTSET)
        sys.stdout.writelines(line.removeprefix(begun) for line in offered.getvalue().splitlines(keepends=True))
    return 1


def _join_words() -> str:
    """Put URIs together again.  bash takes ``:`` for a word of its own (COMP_WORDBREAKS), and typer passes these on.

    Returns the part of the word to complete that bash won't replace, because it takes it for other words.
    """
    line, current = os.environ.get(WORDS, ""), os.environ.get(CURRENT, "")
    words = line.split("\n")
    if ":" not in words or not current.isdecimal():
        return ""
    joined: list[str] = []
    number = int(current)
    for index, word in enumerate(words):
        if joined and (word == ":" or (index and words[index - 1] == ":")):
            joined[-1] += word
            number -= index <= int(current)
        else:
            joined.append(word)
    os.environ[WORDS], os.environ[CURRENT] = "\n".join(joined), str(number)
    word = joined[number] if number < len(joined) else ""
    return word[: word.rfind(":") + 1]


def uris(incomplete: str) -> list[str]:
    """Completes the two daemons that virtcpr can connect to."""
    return [uri for uri in ("qemu:///system", "qemu:///session") if uri.startswith(incomplete)]


def _write_script(shell: str) -> int:
    """The completion script.  typer's own answer begins with an empty line, but zsh needs #compdef there."""
    try:
        print(get_completion_script(prog_name="virtcpr", complete_var=VARIABLE, shell=shell))
    except (typer.Exit, SystemExit):  # typer has written to stderr that it doesn't know that shell
        return 1
    return 0


def domains(which: Nameable) -> Completer:
    """Completes the names of these domains, except names that are already on the command line."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        session: Session = ctx.obj
        given = ctx.params.get("domain") or ()
        try:
            names = session.backend.names(ctx.find_root().params.get("connect"), which)
        except Exception:
            return []
        offered = (name for name in names if name.startswith(incomplete) and name not in given)
        return [name for name in offered if HARMLESS.fullmatch(name)]

    return complete


def emulators(incomplete: str) -> list[str]:
    """Completes the emulators of packages; the shell completes other files."""
    try:
        paths = sorted(map(str, Path(EMULATORS).parent.glob(f"{Path(EMULATORS).name}*")))
    except OSError:
        return []
    return [path for path in paths if path.startswith(incomplete)]
