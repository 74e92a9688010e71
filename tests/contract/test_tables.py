"""Tables for people, compared with golden/."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.contract.conftest import Cli
from tests.contract.fake import FakeBackend
from tests.contract.reports import DB, LAB, MAIL, NEW, OLD, WARNING, WEB, outlook_of
from virtcpr.cli.output import layout, tables
from virtcpr.model import DomainReport, ExitCode, Finding, ListReport, Result, Severity, Side, UpgradeReport

Golden = Callable[[str, str], None]
ALL = UpgradeReport((WEB, MAIL, DB, LAB), ExitCode.SOME, 812.3, ("libvirtd was started again by hand",))


def test_one_long_name_breaks_no_other_row() -> None:
    """On a terminal; a file has the whole name."""
    long = replace(ALL.domains[0], name="a-very-long-domain-name-" + "x" * 60)
    report = replace(ALL, domains=(long, *ALL.domains[1:]))
    lines = layout.draw(tables.upgrade(report), color=False, width=80).splitlines()
    assert max(map(len, lines)) <= 80
    assert next(line for line in lines if line.startswith("mail")).split() == ["mail", "current", "10.0.13", "-"]
    assert [line for line in lines if re.match(r"a-very-long-domain-name-x+… +upgraded ", line)]
    assert long.name in layout.draw(tables.upgrade(report), color=False, width=100_000)


def test_upgrade(cli: Cli, golden: Golden) -> None:
    golden("upgrade.txt", cli("-q", "upgrade", "--all", "-y", backend=FakeBackend(result=ALL)).out)


def test_list(cli: Cli, golden: Golden) -> None:
    golden("list.txt", cli("list").out)


def test_list_with_reasons(cli: Cli, golden: Golden) -> None:
    golden("list-verbose.txt", cli("-v", "list").out)


def test_empty_list(cli: Cli) -> None:
    assert cli("list", backend=FakeBackend(ListReport(()))).out == "no domains\n"
    session = ListReport((), uri="qemu:///session")
    assert cli("list", backend=FakeBackend(session)).out == "no domains in qemu:///session\n"


def test_outlook(golden: Golden) -> None:
    drawn = layout.draw(tables.outlook([outlook_of(one) for one in ALL.domains]), color=False, width=80)
    golden("outlook.txt", drawn + "\n")


def test_a_narrow_terminal(golden: Golden) -> None:
    golden("upgrade-60.txt", layout.draw(tables.upgrade(ALL), color=False, width=60) + "\n")


def test_color(golden: Golden) -> None:
    golden("upgrade-color.txt", layout.draw(tables.upgrade(ALL), color=True, width=100) + "\n")


def test_short_versions_still_differ() -> None:
    """Where only the package differs, it is what has to be shown."""
    report = DomainReport("web", WEB.uuid, Result.UPGRADED, None, Side("10.0.2 (Debian 1)"), Side("10.0.2 (Debian 2)"))
    drawn = layout.draw(tables.upgrade(UpgradeReport((report,), ExitCode.DONE)), color=False, width=20)
    assert "10.0.2 (Debian 1) → 10.0.2 (Debian 2)" in drawn


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("[bold]web[/bold]", "[bold]web[/bold]"),
        ("[link=http://x]", "[link=http://x]"),
        (":smile:", ":smile:"),
        ("\x1b]0;title\x07web", "\\x1b]0;title\\x07web"),
        ("we\nb\r", "we\\nb\\r"),
        ("we\u202eb", "we\\u202eb"),
        ("we\x9bb\x7f", "we\\x9bb\\x7f"),
        ("we\udc80b", "we\\udc80b"),
        ("网络", "网络"),
        ("a" * 300, "a" * 300),
    ],
)
@pytest.mark.parametrize("color", [True, False])
def test_names_are_shown_not_obeyed(name: str, shown: str, color: bool) -> None:
    finding = Finding("x", Severity.INFO, name, name)
    report = DomainReport(name, WEB.uuid, Result.CURRENT, None, OLD, NEW, findings=(finding,))
    drawn = layout.draw(tables.upgrade(UpgradeReport((report,), ExitCode.DONE)), color=color, width=1000)
    row = drawn.split("\n")[1]
    assert row.startswith(shown + "  ")
    assert "current" in row
    assert "\x07" not in drawn
    assert "\x1b]" not in drawn


def test_wide_characters_keep_the_columns() -> None:
    reports = tuple(DomainReport(name, WEB.uuid, Result.CURRENT, None, OLD, OLD) for name in ("网络", "abcd"))
    drawn = layout.draw(tables.upgrade(UpgradeReport(reports, ExitCode.DONE)), color=False, width=200)
    _, wide, narrow, _ = drawn.split("\n")
    assert wide.index("current") + 2 == narrow.index("current")


def test_a_warning_of_an_upgraded_domain_has_its_remedy_under_it() -> None:
    lines = layout.draw(tables.upgrade(UpgradeReport((WEB,), ExitCode.DONE)), color=False, width=200).split("\n")
    assert lines[2:] == [
        f"  warning vnc-dropped: {WARNING.message}",
        f"    {WARNING.remedy}",
        "1 domain: 1 upgraded",
    ]
