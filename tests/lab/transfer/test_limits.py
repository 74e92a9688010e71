"""Limits on a pause and on a blackout: the batch is split, and what is forecast to take longer isn't begun."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILD, REBUILT
from tests.lab.support.client import run
from tests.lab.support.guests import SMALL
from tests.lab.support.machine import Lab

THREE = tuple(replace(SMALL, name=f"small{number}", number=70 + number) for number in range(3))
HISTORY = "/var/lib/virtcpr/history.jsonl"


@pytest.fixture(scope="module")
def three(lab: Lab) -> Iterator[Guests]:
    run("python3", "-", stdin=REBUILD)
    run("rm", "-f", HISTORY)
    made = Guests()
    made.start(*THREE)
    yield made
    made.end()


def blackouts(last: int) -> list[dict[str, float]]:
    """Of the last moves, from the history."""
    entries = json.loads(client.virtcpr("history", "-o", "json", check=True).out)["entries"]
    return [entry["blackout"] for entry in entries[-last:]]


def plan(*options: str) -> dict[str, object]:
    document: dict[str, object] = json.loads(
        client.virtcpr("plan", "--all", "--force", "--no-rehearse", "-o", "json", *options, check=True).out
    )
    return document


def test_a_batch_is_split(three: Guests) -> None:
    """Without a forecast one guest goes first; the daemon is back between the parts, or no other could be made."""
    assert plan("--max-blackout", "30")["forecast_blackouts"] is None

    report = client.upgrade("--all", "--emulator", REBUILT, "--max-blackout", "30")

    assert report["exit_code"] == 0, report
    assert report["blackouts"]["times"] == 2
    assert "notes" not in report
    seen = blackouts(3)
    assert [one["guests"] for one in seen] == [1, 2, 2]
    assert report["blackouts"]["longest_ms"] == max(one["ms"] for one in seen)
    assert report["blackout_ms"] == pytest.approx(seen[0]["ms"] + seen[1]["ms"], abs=0.2)
    for shape in THREE:
        three.assert_well(shape)


def test_with_a_forecast_it_is_split_no_more_than_it_must_be(three: Guests) -> None:
    forecast = plan("--max-blackout", "30")["forecast_blackouts"]
    assert isinstance(forecast, dict)
    assert forecast["times"] == 1

    report = client.upgrade("--all", "--emulator", EMULATOR, "--max-blackout", "30")

    assert report["exit_code"] == 0, report
    assert report["blackouts"]["times"] == 1
    assert [one["guests"] for one in blackouts(3)] == [3, 3, 3]
    for shape in THREE:
        three.assert_well(shape)


def test_what_is_forecast_to_take_longer_is_not_begun(three: Guests) -> None:
    before = {shape.name: client.pid(shape.name) for shape in THREE}
    for option, code, words in (
        ("--max-pause", "long-pause", "--max-pause allows 0.01 ms"),
        ("--max-blackout", "long-blackout", "--max-blackout allows 0.01 s"),
    ):
        report = client.upgrade("--all", "--emulator", REBUILT, "--fallback", "reboot", option, "0.01")
        assert report["exit_code"] == 4, report
        assert (report["blackout_ms"], report["blackouts"]) == (None, None)
        for domain in report["domains"]:
            (finding,) = [one for one in domain["findings"] if one["code"] == code]
            assert words in finding["message"]
            assert domain["result"] == "blocked"
    assert {shape.name: client.pid(shape.name) for shape in THREE} == before
    assert plan("--max-blackout", "0.01")["forecast_blackouts"] is None
