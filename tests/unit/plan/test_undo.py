"""Which domains of a batch go back where, and which builds are removed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from virtcpr.model import HistoryEntry, Result
from virtcpr.plan.undo import last_batch, surplus, ways_back, went_back

WEB = HistoryEntry(
    "2026-05-04T03:02:01+00:00", "web", "u1", Result.UPGRADED, source="10.0.2", target="10.0.13",
    batch=4, source_build="old", target_build="new",
)  # fmt: skip
DB = replace(WEB, name="db", uuid="u2")
FAILED = replace(WEB, name="mail", uuid="u3", result=Result.ROLLED_BACK)
LATER = replace(DB, batch=5, source_build="new", target_build="newest")
BACK = replace(WEB, batch=6, undoes=4, source_build="new", target_build="old")
OF_0_1_0 = replace(WEB, batch=None, source_build=None, target_build=None)
PROGRAMS = {"old": "/kept/old/qemu"}


@pytest.mark.parametrize(
    ("entries", "batch"),
    [
        ([], None),
        ([OF_0_1_0], None),
        ([WEB, DB], 4),
        ([WEB, DB, LATER], 5),
        ([WEB, replace(FAILED, batch=5)], 4),
        ([WEB, LATER, BACK], 5),
        ([WEB, BACK], None),
        ([WEB, DB, BACK], 4),
        ([WEB, DB, LATER, replace(BACK, name="db", uuid="u2", undoes=5, result=Result.ROLLED_BACK)], 5),
        ([WEB, replace(BACK, batch=4)], None),
    ],
)
def test_the_last_batch_that_can_be_undone(entries: list[HistoryEntry], batch: int | None) -> None:
    assert last_batch(entries) == batch


def test_what_the_batch_moved_goes_back() -> None:
    ways = ways_back([WEB, DB, FAILED], 4, PROGRAMS, ["u1", "u2", "u3"])
    assert [(way.entry.name, way.program) for way in ways] == [("web", PROGRAMS["old"]), ("db", PROGRAMS["old"])]


def test_what_was_moved_on_stays() -> None:
    web, db = ways_back([WEB, DB, LATER], 4, PROGRAMS, ["u1", "u2"])
    assert web.program == PROGRAMS["old"]
    assert (db.program, db.finding, db.note) == (None, None, "db was moved again by batch 5: it is left where it is")


def test_what_went_back_already_stays() -> None:
    """A way back on probation is of the same batch."""
    web, db = ways_back([WEB, DB, replace(BACK, batch=4)], 4, {**PROGRAMS, "new": "/kept/new/qemu"}, ["u1", "u2"])
    assert (web.program, web.finding, web.note) == (None, None, "web was taken back already: nothing to undo")
    assert db.program == PROGRAMS["old"]


def test_what_does_not_run_has_nothing_to_undo() -> None:
    (web,) = ways_back([WEB], 4, PROGRAMS, [])
    assert (web.program, web.finding, web.note) == (None, None, "web doesn't run any more: nothing to undo")


@pytest.mark.parametrize("entry", [WEB, replace(WEB, source_build=None)])
def test_a_build_that_is_not_kept(entry: HistoryEntry) -> None:
    (web,) = ways_back([entry], 4, {"other": "/kept/other/qemu"}, ["u1"])
    assert web.program is None
    assert web.finding is not None
    assert (web.finding.code, web.finding.message) == (
        "not-kept",
        "the QEMU that it came from (10.0.2) isn't kept on this host",
    )
    assert "'virtcpr upgrade web'" in web.finding.remedy


@pytest.mark.parametrize(
    ("newest", "build", "expected"),
    [(None, "new", False), (WEB, "new", False), (BACK, "new", True), (BACK, "newest", False)],
)
def test_taken_back_from_this_build(newest: HistoryEntry | None, build: str, expected: bool) -> None:
    assert went_back(newest, build) is expected


DAY = 86400.0


@pytest.mark.parametrize(
    ("builds", "most", "days", "going"),
    [
        ([("a", 1.0, False), ("b", 2.0, False)], 2, 30, set()),
        ([("a", 1.0, False), ("c", 3.0, False), ("b", 2.0, False)], 2, 30, {"a"}),
        ([("a", 1.0, True), ("b", 2.0, False), ("c", 3.0, False)], 1, 30, {"b"}),
        ([("a", 0.0, False), ("b", DAY, False)], 2, 1, {"a"}),
        ([("a", 0.0, True)], 0, 0, set()),
    ],
)
def test_what_is_kept(builds: list[tuple[str, float, bool]], most: int, days: int, going: set[str]) -> None:
    assert surplus(builds, most, days, now=DAY + 10) == going
