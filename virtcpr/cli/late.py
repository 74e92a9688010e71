"""Global flags after the command: ``virtcpr check web -v`` means what ``virtcpr -v check web`` means."""

from __future__ import annotations

import re
from collections.abc import Sequence

FLAGS = re.compile(r"-[vq]+|--verbose|--quiet|--debug|--no-color")


def flags_first(args: Sequence[str]) -> list[str]:
    """The arguments with the global flags before the command.  What follows ``--`` are names, and stays."""
    end = args.index("--") if "--" in args else len(args)
    flags = [arg for arg in args[:end] if FLAGS.fullmatch(arg)]
    return [*flags, *(arg for arg in args[:end] if not FLAGS.fullmatch(arg)), *args[end:]]
