"""Who may import whom (CONTRIBUTING.md, "The layers"), read from the source."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.paths import ROOT

PACKAGE = "virtcpr"

# What each part may import of virtcpr; itself goes without saying.  "" is virtcpr/__init__.py.
ALLOWED: dict[str, set[str]] = {
    "": set(),
    "__main__": {"cli"},
    "model": set(),
    "errors": {"model"},
    "domain": {"errors"},
    "plan": {"model", "errors", "domain"},
    "host": {"model", "errors"},
    "actions": {"model", "errors", "domain", "plan", "host"},
    "cli": {"", "model", "errors", "actions"},
}
# The same within actions, by its rooms; "" is its top, one module a command.  Modes never import each other.
ROOMS: dict[str, set[str]] = {
    "": {"daemon", "inspect", "reboot", "records", "rehearsal", "rollout", "transfer"},
    "auto": {"", "daemon", "records", "rehearsal", "transfer"},
    "transfer": {"daemon", "inspect", "monitor", "records", "rehearsal"},
    "reboot": {"daemon", "inspect", "monitor", "records", "rehearsal"},
    "rehearsal": {"monitor"},
    "rollout": {"records"},
    "daemon": set(),
    "inspect": {"records"},
    "monitor": set(),
    "records": set(),
}
MAX_MODULES = 20  # in one folder: more are several subjects
# Modules that only some parts may import.
WALLS: dict[str, set[str]] = {
    "typer": {"cli"},
    "rich": {"cli"},
    "libvirt": {"host"},
    "libvirt_qemu": {"host"},
    "subprocess": {"host"},
    "socket": {"host"},
    "ctypes": {"host"},
    "qemu": {"host"},
    "lxml": {"domain"},
    "click": set(),
}
# plan is pure: no system, no clock, no log.
NOT_IN_PLAN = {"os", "subprocess", "socket", "asyncio", "time", "datetime", "logging", "pathlib", "libvirt"}
# The one module of cli that may reach actions.
DOOR = "virtcpr/cli/real_backend.py"

pytestmark = pytest.mark.lint


@dataclass(frozen=True)
class Import:
    """``module`` as written in ``path``, at ``line``."""

    path: str
    line: int
    module: str

    @property
    def part(self) -> str:
        """The part of virtcpr that ``path`` belongs to."""
        return Path(self.path).with_suffix("").parts[1].replace("__init__", "")

    @property
    def reaches(self) -> str | None:
        """The part of virtcpr that is imported; None for anything else."""
        parts = self.module.split(".")
        if parts[0] != PACKAGE:
            return None
        return parts[1] if len(parts) > 1 and parts[1] in ALLOWED else ""

    @property
    def room(self) -> str | None:
        """The room of actions that ``path`` is in; None outside of actions."""
        return _room(Path(self.path).with_suffix("").parts)

    @property
    def reaches_room(self) -> str | None:
        """The room of actions that is imported from; None for anything else."""
        return _room(self.module.split("."))

    def wrong(self) -> str | None:
        """Why it may not be, or None."""
        top = self.module.split(".")[0]
        if self.room is not None and self.reaches_room not in {None, self.room} | ROOMS[self.room]:
            return f"actions/{self.room} may not import from actions/{self.reaches_room}"
        if self.reaches is not None:
            if self.reaches not in ALLOWED[self.part] | {self.part}:
                return f"{self.part} may not import virtcpr.{self.reaches}"
            if self.part == "cli" and self.reaches == "actions" and self.path != DOOR:
                return f"cli reaches actions through {DOOR} only"
        elif top in WALLS and self.part not in WALLS[top]:
            return f"{top} belongs in {' and '.join(WALLS[top]) or 'no part'}, not in {self.part}"
        if self.part == "plan" and top in NOT_IN_PLAN:
            return f"plan is pure: it may not import {top}"
        return None


def _room(parts: Sequence[str]) -> str | None:
    if tuple(parts[:2]) != (PACKAGE, "actions"):
        return None
    return parts[2] if len(parts) > 2 and parts[2] in ROOMS else ""


def imports(path: str, source: str) -> Iterator[Import]:
    """Every import of a module, nested and conditional ones too; ``from a import b`` is a.b."""
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(path, node)
            for alias in node.names:
                yield Import(path, node.lineno, f"{base}.{alias.name}")


def _absolute(path: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = Path(path).parent.parts
    return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])


def violations(path: str, source: str) -> list[str]:
    found = ((one, one.wrong()) for one in imports(path, source))
    return [f"{one.path}:{one.line}: {one.module}: {why}" for one, why in found if why]


def sources() -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / PACKAGE).rglob("*.py"))


@cache
def all_imports() -> tuple[Import, ...]:
    return tuple(one for path in sources() for one in imports(path, (ROOT / path).read_text()))


def circle(arrows: Mapping[str, set[str]]) -> list[str]:
    """The modules of an import circle; none if there is no circle."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def arrows(made: Iterable[Import]) -> dict[str, set[str]]:
    """Who imports whom, by modules; imports for type checkers count."""
    modules = {_dotted(path) for path in sources()}
    found: dict[str, set[str]] = {}
    for one in made:
        target = one.module if one.module in modules else one.module.rpartition(".")[0]
        if target in modules:
            found.setdefault(_dotted(one.path), set()).add(target)
    return found


def _dotted(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def test_every_part_has_its_rule() -> None:
    parts = {Import(path, 0, "").part for path in sources()}
    assert parts == set(ALLOWED)
    assert {Import(path, 0, "").room for path in sources()} - {None} == set(ROOMS)


def test_nothing_is_allowed_that_nobody_does() -> None:
    made = {(one.part, one.reaches) for one in all_imports()}
    assert {(part, reached) for part, allowed in ALLOWED.items() for reached in allowed} <= made
    rooms = {(one.room, one.reaches_room) for one in all_imports()}
    assert {(room, reached) for room, allowed in ROOMS.items() for reached in allowed} <= rooms


def test_no_circle() -> None:
    assert circle(arrows(all_imports())) == []


def test_a_circle_is_found() -> None:
    made = [
        Import("virtcpr/plan/steps.py", 1, "virtcpr.plan.guest.Guest"),
        Import("virtcpr/plan/guest.py", 1, "virtcpr.plan.steps"),
    ]
    assert set(circle(arrows(made))) == {"virtcpr.plan.steps", "virtcpr.plan.guest"}


def test_no_folder_has_more_than_one_subject() -> None:
    folders = Counter(str(Path(path).parent) for path in sources() if not path.endswith("__init__.py"))
    assert {folder: count for folder, count in folders.items() if count > MAX_MODULES} == {}


@pytest.mark.parametrize("path", sources())
def test_layers(path: str) -> None:
    assert violations(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    ("path", "source", "why"),
    [
        ("virtcpr/model.py", "from virtcpr.plan.steps import Step", "model may not import virtcpr.plan"),
        ("virtcpr/errors.py", "import virtcpr.host.processes.proc", "errors may not import virtcpr.host"),
        ("virtcpr/domain/argv.py", "from virtcpr import host", "domain may not import virtcpr.host"),
        ("virtcpr/domain/argv.py", "from ..plan import steps", "domain may not import virtcpr.plan"),
        ("virtcpr/domain/argv.py", "from .. import plan", "domain may not import virtcpr.plan"),
        ("virtcpr/plan/steps.py", "def f():\n    import os.path", "plan is pure: it may not import os"),
        ("virtcpr/plan/steps.py", "from time import monotonic", "plan is pure: it may not import time"),
        ("virtcpr/plan/steps.py", "from virtcpr.actions import batch", "plan may not import virtcpr.actions"),
        ("virtcpr/host/processes/proc.py", "from virtcpr.domain import argv", "host may not import virtcpr.domain"),
        ("virtcpr/actions/transfer/batch.py", "from virtcpr.cli import render", "actions may not import virtcpr.cli"),
        (
            "virtcpr/actions/transfer/move.py",
            "from virtcpr.actions.reboot.move import Move",
            "actions/transfer may not import from actions/reboot",
        ),
        (
            "virtcpr/actions/reboot/settle.py",
            "from virtcpr.actions.transfer import settle",
            "actions/reboot may not import from actions/transfer",
        ),
        (
            "virtcpr/actions/records/journal.py",
            "from virtcpr.actions import recover",
            "actions/records may not import from actions/",
        ),
        ("virtcpr/actions/transfer/batch.py", "import subprocess", "subprocess belongs in host"),
        ("virtcpr/actions/transfer/batch.py", "from lxml import etree", "lxml belongs in domain"),
        ("virtcpr/host/libvirt/connection.py", "import rich.console", "rich belongs in cli"),
        (
            "virtcpr/cli/commands/list.py",
            "from virtcpr.actions.list import list_domains",
            "through virtcpr/cli/real_backend",
        ),
        ("virtcpr/cli/app.py", "from virtcpr.host import libvirt", "cli may not import virtcpr.host"),
        ("virtcpr/cli/app.py", "import click", "click belongs in no part"),
        ("virtcpr/cli/app.py", "import qemu.qmp", "qemu belongs in host"),
    ],
)
def test_a_wrong_import_is_found(path: str, source: str, why: str) -> None:
    (found,) = violations(path, source)
    assert why in found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("virtcpr/errors.py", "from virtcpr.model import ExitCode"),
        ("virtcpr/host/libvirt/connection.py", "import libvirt"),
        ("virtcpr/host/qemu/qmp.py", "from qemu.qmp import QMPClient"),
        ("virtcpr/cli/real_backend.py", "from virtcpr.actions.transfer.batch import open_upgrade"),
        ("virtcpr/cli/app.py", "from virtcpr import __version__"),
        ("virtcpr/plan/steps.py", "from virtcpr.domain.argv import parse"),
        ("virtcpr/plan/steps.py", "from . import findings"),
    ],
)
def test_a_right_import_is_not(path: str, source: str) -> None:
    assert violations(path, source) == []
