"""``report``: its table, its JSON, and its page, of one host and of several."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.contract.conftest import Cli
from tests.contract.fake import FakeBackend
from tests.contract.reports import HOST
from tests.contract.schema import checked
from virtcpr.cli.output import json_report
from virtcpr.cli.output.page import page
from virtcpr.cli.output.page.plot import HEIGHT, WIDTH, Mark, scatter
from virtcpr.model import HostReport

Golden = Callable[[str, str], None]
VOID = {"meta"}
EVIL = "<script>alert(1)</script>\x1b[31m"


class Reader(HTMLParser):
    """The text of a page; fails for tags that don't match."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(source)
        assert self.open == []
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = dict(attrs)
        assert not names.keys() & {"src", "onclick", "onload"}, "nothing from elsewhere"
        assert (names.get("href") or "#").startswith("#")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def shown(*reports: HostReport) -> Reader:
    return Reader(page([json_report.document(report) for report in reports]))


def test_its_table(cli: Cli, golden: Golden) -> None:
    golden("report.txt", cli("report").out)
    golden("report-verbose.txt", cli("-v", "report").out)


def test_its_json(cli: Cli) -> None:
    document = checked(cli("report", "-o", "json"))
    assert (document["host"], document["unsettled"]) == ("alpha", ["db"])
    assert [build["fixes"] for build in document["builds"]] == [["CVE-2026-31337", "CVE-2026-40001"], [], None]
    assert document["entries"][2]["findings"][0]["remedy"] == "free 2 GiB"


def test_the_page_has_it_all() -> None:
    text = shown(HOST).text
    for part in (
        "QEMU under the guests of alpha",
        "A move was interrupted of db",
        "3 running guests: 2 in an outdated QEMU, 1 of them can't be moved now",
        "2 moves succeeded, 2 didn't.",
        "outdated: 10.0.13 is installed 2: web, db 264 days 2: CVE-2026-31337, CVE-2026-40001",
        "the installed one 1: mail 6 days none",
        "1: shop - not known",
        "its RAM isn't shared, so that new QEMU can't take it over",
        "there is no room for its RAM free 2 GiB",
        "takes back batch 11",
        "web: 41 ms, 2026-05-04 03:02:01",
        "2 guests: 812 ms",
        "mode live mode transfer",
        "59.0 MiB yes",
    ):
        assert part in text, part


def test_nothing_to_tell() -> None:
    text = shown(replace(HOST, domains=(), builds=(), kept=(), unsettled=(), entries=())).text
    assert "0 running guests: nothing to do. 0 moves succeeded." in text
    assert "interrupted" not in text
    assert "Builds kept" not in text


def test_names_can_do_no_harm() -> None:
    rows = tuple(replace(row, name=EVIL) for row in HOST.domains)
    entries = tuple(replace(entry, name=EVIL, why=EVIL) for entry in HOST.entries)
    seen = shown(replace(HOST, host=EVIL, domains=rows, entries=entries, unsettled=(EVIL,)))
    assert "script" not in seen.tags
    assert seen.text.count("<script>alert(1)</script>\\x1b[31m") > 5
    assert "\x1b" not in seen.text


def test_the_page_of_this_host(cli: Cli) -> None:
    backend = FakeBackend()
    outcome = cli("report", "--html", "host.html", backend=backend)
    assert outcome.code == 0
    assert Reader(backend.files["host.html"]).text == shown(HOST).text
    assert "10.0.2" in outcome.out


def test_several_hosts(cli: Cli) -> None:
    beta = replace(HOST, host="beta", unsettled=())
    backend = FakeBackend()
    backend.files |= {"a.json": json_report.dump(HOST), "b.json": json_report.dump(beta)}
    outcome = cli("report", "a.json", "b.json", "--html", "all.html", backend=backend)
    assert (outcome.code, outcome.out, backend.asked) == (0, "", [])
    text = Reader(backend.files["all.html"]).text
    assert "QEMU under 2 hosts" in text
    assert text.count("beta") == 3  # title, overview, its part


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "a.json isn't JSON: Expecting property name enclosed in double quotes"),
        ("[]", "a.json isn't a report of virtcpr's"),
        (json.dumps({"schema": 1, "command": "list"}), "a.json isn't a report of virtcpr's"),
        (json.dumps({"schema": 2, "command": "report"}), "a.json isn't a report of virtcpr's"),
        (json.dumps({"schema": 1, "command": "report", "error": {}}), "a.json only says why there is no report"),
        (json.dumps({"schema": 1, "command": "report", "host": "a"}), "a.json isn't a report of virtcpr's: "),
        (json_report.dump(replace(HOST, time="today")), "a.json isn't a report of virtcpr's: Invalid isoformat"),
    ],
)
def test_what_is_no_report(cli: Cli, content: str, problem: str) -> None:
    backend = FakeBackend()
    backend.files |= {"good.json": json_report.dump(HOST), "a.json": content}
    outcome = cli("report", "good.json", "a.json", "--html", "all.html", backend=backend)
    assert outcome.code == 1
    assert problem in outcome.err
    assert "on each host: virtcpr report -o json > FILE" in outcome.err
    assert "all.html" not in backend.files


def test_other_hosts_need_a_page(cli: Cli) -> None:
    outcome = cli("report", "a.json")
    assert (outcome.code, "give --html FILE" in outcome.err) == (2, True)


def test_where_marks_are() -> None:
    marks = [
        Mark(f"2026-05-0{day}T00:00:00+00:00", ms, "transfer", "web") for day, ms in ((3, 1000), (1, 10), (2, 100))
    ]
    plot = scatter(marks)
    assert plot is not None
    last, first, middle = plot.points
    assert first.x < middle.x < last.x
    assert first.y > middle.y > last.y
    assert abs(first.y + last.y - 2 * middle.y) < 0.2
    assert [label for _, label in plot.rows] == ["10 ms", "100 ms", "1.0 s"]
    assert plot.dates == ("2026-05-01", "2026-05-03")


@pytest.mark.parametrize("ms", [0.0, 0.4, 1.0, 41.2, 1e6])
def test_one_mark_is_inside(ms: float) -> None:
    plot = scatter([Mark("2026-05-01T00:00:00+00:00", ms, "live", "web")])
    assert plot is not None
    (point,) = plot.points
    assert (0 < point.x < WIDTH, 0 < point.y < HEIGHT) == (True, True)
    assert scatter([]) is None


def test_it_is_in_the_package() -> None:
    """Templates aren't Python: setup.cfg must name them."""
    directory = Path(json_report.__file__).parent / "page"
    assert {path.suffix for path in directory.iterdir() if path.is_file()} == {".py", ".j2", ".css"}
