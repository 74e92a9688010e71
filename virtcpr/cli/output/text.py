"""Small texts: names that can't harm a terminal, figures for people."""

from __future__ import annotations

import codecs
import unicodedata
from datetime import datetime

# Controls, formatting (bidirectional overrides), lone surrogates, line and paragraph separators.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Characters of virtcpr's own texts that a narrow encoding lacks.
_PLAIN = {"→": "->", "…": "..."}
ENCODING_ERRORS = "virtcpr-plain"


def visible(text: str) -> str:
    """``text`` on one line; control characters are escaped."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(char) if unicodedata.category(char) in _INVISIBLE else char for char in text)


def visible_lines(text: str) -> list[str]:
    """The same, line by line: for messages that may have several lines, such as QEMU's."""
    return [visible(line.expandtabs()) for line in text.rstrip().split("\n")] if text.strip() else []


def milliseconds(ms: float) -> str:
    """A duration for people: ``38 ms``, ``1.3 s``."""
    return f"{ms:.0f} ms" if ms < 999.5 else f"{ms / 1000:.1f} s"


def size(number: int) -> str:
    """A number of bytes for people: ``812 B``, ``1.5 MiB``."""
    value, unit = float(number), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1023.95:  # else it would be shown as 1024.0
            break
        value, unit = value / 1024, larger
    return f"{number} B" if unit == "B" else f"{value:.1f} {unit}"


def local_time(stamp: str) -> str:
    """ISO 8601 in local time: ``2026-05-04 03:02:01``; any other text unchanged."""
    try:
        return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return visible(stamp)


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def _plain(error: UnicodeError) -> tuple[str, int]:
    """A codec error handler: our own signs in ASCII, anything else as an escape."""
    assert isinstance(error, UnicodeEncodeError)
    lost = error.object[error.start : error.end]
    return "".join(_PLAIN.get(char) or _escape(char) for char in lost), error.end


codecs.register_error(ENCODING_ERRORS, _plain)
