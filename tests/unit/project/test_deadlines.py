"""docs/deadlines.md has every deadline, with the value that the code has.

A row names its constant after the figure, by the last part of its module: ``30 s <!-- spawn.READY_SECONDS -->``.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator

from tests.paths import ROOT
from tests.unit.support.generated import DOCS, compare

PAGE = DOCS / "deadlines.md"
FIGURE = re.compile(r"(?P<seconds>\S+) s <!-- (?P<name>\S+) -->")


def constants() -> Iterator[tuple[str, str]]:
    """The module of each deadline in the code, and its name."""
    for path in (ROOT / "virtcpr").rglob("*.py"):
        if "cli" not in path.parts:  # of the display
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for name in re.findall(r"^([A-Z_]*SECONDS)\b.* = ", path.read_text(), re.MULTILINE):
                yield module, name


VALUES = {
    f"{module.rpartition('.')[2]}.{name}": getattr(importlib.import_module(module), name)
    for module, name in constants()
}


def test_names_are_unique() -> None:
    assert len(VALUES) == len(list(constants()))


def test_every_deadline_is_on_the_page() -> None:
    assert {figure["name"] for figure in FIGURE.finditer(PAGE.read_text())} == VALUES.keys()


def test_the_page_has_the_values_of_the_code() -> None:
    page = PAGE.read_text()
    compare(PAGE, FIGURE.sub(lambda figure: f"{VALUES[figure['name']]:g} s <!-- {figure['name']} -->", page))


def test_every_wait_names_its_constant() -> None:
    rows = [row for row in PAGE.read_text().splitlines() if row.startswith("| ") and " | at most | " not in row]
    assert [row for row in rows if not FIGURE.search(row)] == []


def test_a_paused_guest_waits_less_than_its_own_watchdog() -> None:
    """Linux calls a CPU stuck after twice ``kernel.watchdog_thresh``, 10 s."""
    assert VALUES["ownership.MOVE_SECONDS"] + VALUES["query.LOOK_SECONDS"] < 20
