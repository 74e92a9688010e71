"""Tables that are generated, in pages of docs/ that are otherwise written by hand.

A table stands between two markers, ``<!-- generated: NAME -->`` and ``<!-- end -->``; all around them is prose, which
nothing here touches.  ``VIRTCPR_GOLDEN=write make unit`` writes the tables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.paths import ROOT

DOCS = ROOT / "docs"
_BLOCK = re.compile(r"(?<=<!-- generated: )(?P<name>\S+)( -->\n)(?P<text>.*?)(?=<!-- end -->)", re.DOTALL)
_HINT = "to write it anew: VIRTCPR_GOLDEN=write make unit"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown, with a line end after each row."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"

    return "".join([line(header), "|" + "---|" * len(header) + "\n", *map(line, rows)])


def written(page: str, tables: Mapping[str, str]) -> str:
    """The page with these tables between its markers.  Raises AssertionError unless it has exactly their markers."""
    named = [block["name"] for block in _BLOCK.finditer(page)]
    assert sorted(named) == sorted(tables), "the page's markers"
    return _BLOCK.sub(lambda block: f"{block['name']}{block[2]}\n{tables[block['name']]}\n", page)


def check(page: Path, tables: Mapping[str, str]) -> None:
    """The page has these tables; with VIRTCPR_GOLDEN=write they are written to it."""
    compare(page, written(page.read_text(), tables))


def compare(page: Path, text: str) -> None:
    """The page is this text; with VIRTCPR_GOLDEN=write it becomes it."""
    if os.environ.get("VIRTCPR_GOLDEN") == "write":
        page.write_text(text)
    assert page.read_text() == text, f"{page.name}: {_HINT}"
