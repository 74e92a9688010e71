"""Unified diffs for people."""

from __future__ import annotations

from virtcpr.cli.output.text import visible

# As git colours them.
STYLES = {"---": "1", "+++": "1", "@@": "36", "-": "31", "+": "32"}


def draw(diff: str, *, color: bool) -> str:
    """The diff line by line; control characters are escaped."""
    return "\n".join(_line(visible(line.expandtabs()), color=color) for line in diff.split("\n"))


def _line(line: str, *, color: bool) -> str:
    style = next((style for start, style in STYLES.items() if line.startswith(start)), None)
    return f"\x1b[{style}m{line}\x1b[0m" if color and style else line
