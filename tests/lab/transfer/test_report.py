"""The page of `report`, of guests that were moved and of one that wasn't, in a headless Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import browser, client
from tests.lab.support.client import run
from tests.lab.support.guests import SMALL
from tests.lab.support.machine import Lab

pytestmark = pytest.mark.thorough  # it installs a browser
SHORT = replace(SMALL, name="web", number=30, memory_mib=192, ram_mib=16, serial="file")
LONG = replace(SHORT, name="a-guest-whose-name-is-as-long-as-people-make-them-" + "x" * 120, number=31)
PAGE = "/root/report.html"


@pytest.fixture(scope="module")
def page(lab: Lab) -> Iterator[str]:
    """Two guests in OLD, of which one was moved by each mode; NEW is installed."""
    made = Guests()
    made.start(SHORT, LONG, watch=False)
    client.install_qemu("NEW")
    for mode in ("transfer", "reboot"):
        client.upgrade(SHORT.name, "--force", "--mode", mode)
    run("virtcpr", "report", "--html", PAGE)
    yield run("cat", PAGE).out
    made.end()


@pytest.mark.parametrize("width", [400, 700, 1600])
def test_it_can_be_read(page: str, width: int) -> None:
    """Nothing stands out on the right, and no text is small."""
    seen = browser.laid_out(page, width)
    assert seen.wide == ()
    assert seen.width <= width
    assert seen.smallest >= 10


def test_what_is_in_it(page: str) -> None:
    assert len(re.findall(r"CVE-\d{4}-\d+", page)) > 20
    assert page.count("<circle") + page.count("<rect") >= 4  # a mark for each pause, and those that say what they mean
    assert run("stat", "-c", "%a", PAGE).out.strip() == "644"


def test_it_can_be_a_picture(page: str) -> None:
    root = ElementTree.fromstring(browser.svg(page, 900))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert int(root.attrib["viewBox"].split()[3]) > 500
