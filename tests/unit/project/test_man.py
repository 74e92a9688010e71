"""The man pages say what the program has, no more and no less: commands, options, codes, variables, files, keys."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import tomllib
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer
from docutils import nodes
from docutils.core import publish_doctree, publish_string
from docutils.writers.manpage import Writer

import virtcpr
from tests.paths import ROOT
from virtcpr.cli.app import app
from virtcpr.cli.completion import VARIABLE
from virtcpr.cli.failure import INTERRUPTED
from virtcpr.host.libvirt import hooks
from virtcpr.model import ExitCode
from virtcpr.plan import policy

PAGE, CONFIGURATION = ROOT / "man/virtcpr.8.rst", ROOT / "man/virtcpr.toml.5.rst"
STRICT = {"report_level": 1, "halt_level": 2, "input_encoding": "utf-8"}
SECTIONS = [
    "NAME", "SYNOPSIS", "DESCRIPTION", "GLOBAL OPTIONS", "COMMANDS", "EXIT STATUS", "FILES", "ENVIRONMENT", "RECOVERY",
    "SECURITY", "LIMITS", "EXAMPLES", "SEE ALSO",
]  # fmt: skip
OUTPUT = {"-o", "--output"}
OURS = ("/run/virtcpr", "/var/lib/virtcpr", "/etc/virtcpr")


def page(path: Path) -> nodes.document:
    document: nodes.document = publish_doctree(path.read_text(), settings_overrides=STRICT)
    return document


def section(document: nodes.Element, title: str) -> nodes.Element:
    (found,) = [one for one in document.findall(nodes.section) if one[0].astext() == title]
    return found


def options(part: nodes.Element) -> dict[str, str]:
    """Every option that a part describes → what it says of it."""
    items = [item for group in part.findall(nodes.option_list) for item in group.findall(nodes.option_list_item)]
    return {name.astext(): item[1].astext() for item in items for name in item.findall(nodes.option_string)}


def terms(part: nodes.Element) -> dict[str, nodes.Element]:
    """The terms of a part's definition lists, and what is said of them."""
    items = part.findall(nodes.definition_list_item)
    return {item[0].astext(): item for item in items}


def program() -> Any:
    """The program's command tree.  Its classes are click's, which newer releases of typer have inside."""
    return typer.main.get_command(app)


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every command of a group, as it is typed."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


COMMANDS = dict(commands(program()))


def taken(command: Any) -> dict[str, Any]:
    """Every option of a command → its parameter, but for those that are nobody's to give."""
    shown = (one for one in command.params if one.param_type_name == "option" and not one.hidden)
    return {name: one for one in shown for name in (*one.opts, *one.secondary_opts)}


def choices(command: Any, parameter: str) -> list[str]:
    """What an option of a command may be, where that is one of some words; by its type, which all of typer keep."""
    kind = get_type_hints(inspect.unwrap(command.callback))[parameter]
    return [str(word.value) for word in kind] if isinstance(kind, type) and issubclass(kind, Enum) else []


def test_choices_are_found() -> None:
    assert choices(COMMANDS["upgrade"], "mode") == ["auto", "transfer", "parked", "live", "reboot"]


@pytest.mark.parametrize("path", [PAGE, CONFIGURATION], ids=lambda path: path.name)
def test_it_renders(path: Path) -> None:
    text = publish_string(
        path.read_text(), writer=Writer(), settings_overrides={**STRICT, "output_encoding": "unicode"}
    )
    assert '.TH "' in text
    assert page(path)[0].astext() == path.name.split(".8")[0].split(".5")[0]
    (version,) = page(path).findall(nodes.version)
    assert version.astext() == virtcpr.__version__


def test_it_has_all_sections_in_their_order() -> None:
    titles = [one[0].astext() for one in page(PAGE).children if isinstance(one, nodes.section)]
    assert ["NAME", *titles] == SECTIONS  # rst2man makes NAME of title and subtitle


def test_it_has_every_command() -> None:
    described = [one[0].astext() for one in section(page(PAGE), "COMMANDS").children if isinstance(one, nodes.section)]
    assert described == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_it_has_every_option_of_a_command(name: str) -> None:
    expected = taken(COMMANDS[name])
    assert expected.keys() >= OUTPUT
    described = options(section(section(page(PAGE), "COMMANDS"), name))
    assert described.keys() == expected.keys() - OUTPUT
    for option, text in described.items():
        for choice in choices(COMMANDS[name], expected[option].name):
            assert choice in text, f"{option} of {name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_it_shows_how_a_command_is_given(name: str) -> None:
    """Names of domains, where it takes some, and each option where there is no place that stands for all."""
    part = section(section(page(PAGE), "COMMANDS"), name)
    (lines, *_) = [block.astext().splitlines() for block in part.findall(nodes.literal_block)]
    assert all(line.startswith(f"virtcpr {name}") for line in lines)
    arguments = [one for one in COMMANDS[name].params if one.param_type_name == "argument"]
    shown = {str(one.name).upper() for one in arguments}
    assert {word for line in lines for word in ("DOMAIN", "BATCH", *shown) if word in line} == shown
    if not any("[OPTION]..." in line for line in lines):
        for option in options(part):
            assert any(option in line for line in lines)


def test_it_has_every_global_option() -> None:
    described = options(section(page(PAGE), "GLOBAL OPTIONS"))
    assert described.keys() == taken(program()).keys() | {"-h", "--help"}
    top = section(page(PAGE), "COMMANDS")
    assert options(top).keys() >= OUTPUT


def test_it_has_every_exit_code() -> None:
    assert list(terms(section(page(PAGE), "EXIT STATUS"))) == [str(int(code)) for code in (*ExitCode, INTERRUPTED)]


def environment(tree: ast.AST) -> Iterator[str]:
    """The variables that a module reads: os.environ["X"], os.environ.get("X"), os.getenv("X")."""
    for node in ast.walk(tree):
        asked: ast.expr | None = None
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            asked = node.slice
        elif isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func)
            asked = node.args[0] if called == "os.getenv" or called.startswith("os.environ.") else None
        if isinstance(asked, ast.Constant):
            yield str(asked.value)


def test_the_variables_of_a_module_are_found() -> None:
    source = "import os\na = os.environ['A']; b = os.environ.get('B', ''); c = os.getenv('C'); d = other['D']"
    assert set(environment(ast.parse(source))) == {"A", "B", "C"}


def test_it_has_every_variable() -> None:
    read = {name for path in (ROOT / "virtcpr").rglob("*.py") for name in environment(ast.parse(path.read_text()))}
    assert terms(section(page(PAGE), "ENVIRONMENT")).keys() == read | {VARIABLE, "LIBVIRT_DEFAULT_URI"}


def paths() -> set[str]:
    """Every path of ours that a module names."""
    found = set()
    for one in pkgutil.walk_packages(virtcpr.__path__, "virtcpr."):
        if not one.name.endswith("__main__"):
            values = vars(import_module(one.name)).values()
            found |= {str(value) for value in values if isinstance(value, Path)}
    return {path for path in found if path.startswith(OURS)} - set(OURS)


def test_it_has_every_file() -> None:
    part = section(page(PAGE), "FILES")
    described = {name.astext() for item in part.findall(nodes.term) for name in item.findall(nodes.emphasis)}
    places = {str(hooks.DIRECTORY / place) for place in hooks.PLACES.values()}
    assert described >= paths() | places | {"/run/virtcpr/lock"}
    sources = [path for folder in ("virtcpr", "hooks", "packages") for path in (ROOT / folder).rglob("*")]
    text = "\n".join(path.read_text() for path in sources if path.is_file() and path.suffix != ".pyc")
    for name in (name for name in described if name.startswith(OURS)):
        assert f"{Path(name).name}" in text, f"nothing has to do with {name}"


def test_the_page_on_security_has_every_file() -> None:
    text = (ROOT / "docs/security.md").read_text()
    assert {path for path in paths() if f"`{path}" not in text} == set()


def test_the_configuration_s_page_has_every_key() -> None:
    described = terms(section(page(CONFIGURATION), "KEYS"))
    assert list(described) == list(policy.KEYS)
    for key, said in described.items():
        (default,) = [one for one in said.findall(nodes.paragraph) if one.astext().startswith("Default: ")]
        stated = tomllib.loads(f"value = {default.astext().removeprefix('Default: ')}")["value"]
        assert stated == _as_in_the_file(getattr(policy.Policy(), policy.KEYS[key].member)), key
    for key, words in (("auto", policy.Auto), ("fallback", policy.Fallback)):
        assert all(f'"{word.value}"' in described[key].astext() for word in words)


def _as_in_the_file(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


def test_its_examples_are_understood() -> None:
    blocks = [one.astext() for one in section(page(CONFIGURATION), "EXAMPLES").findall(nodes.literal_block)]
    examples = [block for block in blocks if "=" in block]
    assert len(examples) == 2
    for example in examples:
        assert policy.policy([("example", example)]).auto is policy.Auto.APPLY
