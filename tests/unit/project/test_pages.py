"""What people read first: README is short, shows what was run, and no link in any page leads nowhere."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from tests.paths import ROOT
from tests.unit.support.generated import DOCS
from virtcpr.cli.failure import INTERRUPTED
from virtcpr.model import ExitCode

README = ROOT / "README.md"
PAGES = (README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(DOCS.glob("*.md")))
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
PIECE = re.compile(r'<text class="virtcpr-r\d+" [^>]*y="([\d.]+)"[^>]*>(.*?)</text>', re.DOTALL)
ELSEWHERE = ("http:", "https:", "mailto:")

pytestmark = pytest.mark.lint


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCED.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """What a link can name in the page, as code hosts make it of its headings."""
    headings = re.findall(r"^#+ (.*)", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path) -> Iterator[str]:
    """The links of the page that lead nowhere."""
    for link in LINK.finditer(prose(page)):
        if link["path"].startswith(ELSEWHERE):
            continue
        target = page.parent / link["path"] if link["path"] else page
        if not target.exists() or (link["anchor"] and link["anchor"] not in anchors(target)):
            yield link[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_leads_nowhere(page: Path) -> None:
    assert list(broken(page)) == []


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A b: `c`\n[1](page.md#a-b-c) [2](#a-b) [3](gone.md) [4](https://example.org/x)\n```\n[5](x)\n```\n"
    )
    assert list(broken(page)) == ["](#a-b)", "](gone.md)"]


def test_the_readme_is_short() -> None:
    assert len(README.read_bytes()) <= 8192
    start = "\n".join(README.read_text().splitlines()[:25])
    assert "make demo" in start
    assert "make test" in start


def test_every_page_is_in_the_index() -> None:
    linked = {link["path"] for link in LINK.finditer((DOCS / "README.md").read_text())}
    assert {page.name for page in DOCS.glob("*.md")} - linked == {"README.md"}


def test_the_readme_shows_what_is_in_the_picture() -> None:
    """Line by line, but for the gaps; the pieces of a line have the same height."""
    lines: dict[str, str] = {}
    for height, text in PIECE.findall((DOCS / "upgrade.svg").read_text()):
        lines[height] = lines.get(height, "") + "".join(html.unescape(text).split())
    assert len(lines) > 10
    shown = {"".join(line.split()) for line in README.read_text().splitlines()}
    assert set(lines.values()) - shown == set()


def test_the_example_of_json_is_as_the_schema_says() -> None:
    example = (DOCS / "json.md").read_text().partition("```json\n")[2].partition("```")[0]
    schema = json.loads((ROOT / "virtcpr/cli/schema-1.json").read_text())
    jsonschema.validate(json.loads(example), schema)


def test_the_page_on_exit_codes_has_every_one() -> None:
    codes = re.findall(r"^\| (\d+) \|", (DOCS / "exit-codes.md").read_text(), re.MULTILINE)
    assert codes == [str(int(code)) for code in (*ExitCode, INTERRUPTED)]


def test_the_page_on_templates_shows_the_template() -> None:
    """But for its comments, and blank lines."""
    block = (DOCS / "xml-templates.md").read_text().partition("```xml\n")[2].partition("```")[0]
    template = re.sub(r"\s*<!--.*?-->", "", (ROOT / "xml-templates/transfer.xml").read_text(), flags=re.DOTALL)
    assert block.split() == template.split()


@pytest.mark.parametrize("page", sorted((ROOT / "man").glob("*.rst")), ids=lambda page: page.name)
def test_the_man_pages_name_pages_of_the_package(page: Path) -> None:
    """The package has README and docs/ there as they are here."""
    named = re.findall(r"/usr/share/doc/virtcpr/(docs\S*?)[*,.:]*\*", page.read_text())
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
