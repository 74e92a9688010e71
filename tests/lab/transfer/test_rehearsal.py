"""A twin tries the move first: what QEMU would refuse is refused before the guest is touched."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.client import LAB, run, shell, virsh
from tests.lab.support.guests import DATABASE, OFFICE, SMALL
from tests.lab.support.leftovers import leftovers, qemu_processes
from tests.lab.support.rehearsals import REFUSED, untouched

FORGET = ("rm", "-f", "/run/virtcpr/rehearsals.json")


def planned(*arguments: str) -> dict[str, Any]:
    """``plan``: its domains by name."""
    done = client.virtcpr("plan", "--all", "-o", "json", *arguments, check=True)
    return {domain["name"]: domain for domain in json.loads(done.out)["domains"]}


def test_no_go_blocks_before_the_guest_is_touched(guests: Guests) -> None:
    client.install_qemu("NEW")
    guests.start(SMALL, DATABASE)
    pids = [client.pid(shape.name) for shape in (SMALL, DATABASE)]
    client.install_qemu("NEXT")
    guests.witness.mark()

    report = client.upgrade("--all")

    assert report["exit_code"] == 4, report
    assert report["blackout_ms"] is None
    for domain in report["domains"]:
        (finding,) = domain["findings"]
        assert (domain["result"], finding["code"]) == ("blocked", "rehearsal")
        assert REFUSED in finding["message"]
        assert "warning" not in finding["message"]
        assert untouched(domain["name"])
    assert [client.pid(shape.name) for shape in (SMALL, DATABASE)] == pids
    assert {one["rehearsal"]["verdict"] for one in planned().values()} == {"no-go"}
    assert {one["action"] for one in planned().values()} == {"blocked"}
    for shape in (SMALL, DATABASE):
        guests.assert_well(shape)
    assert leftovers() == ""
    assert qemu_processes() == 2
    assert run("find", "/run/virtcpr", "-name", "scratch-*").out == ""

    tried = client.upgrade(SMALL.name, "--no-rehearse")

    assert tried["exit_code"] == 5
    assert REFUSED in tried["domains"][0]["findings"][0]["message"]
    assert client.pid(SMALL.name) == pids[0]
    guests.assert_well(SMALL)


def test_go_and_what_is_known_is_not_rehearsed_again(guests: Guests) -> None:
    """Guests of all kinds of devices; then the same guests, whose QEMU is deleted, to another one still."""
    client.install_qemu("OLD")
    guests.start(OFFICE, DATABASE)
    client.install_qemu("NEW")
    run(*FORGET)

    first = client.virtcpr("-v", "plan", "--all", check=True)
    again = client.virtcpr("-v", "plan", "--all", check=True)

    assert first.err.count("rehearsing") == 2
    assert again.err.count("rehearsing") == 0
    assert {one["rehearsal"]["verdict"] for one in planned().values()} == {"go"}
    assert all(untouched(shape.name) for shape in (OFFICE, DATABASE))
    report = client.upgrade("--all")
    assert [domain["findings"] for domain in report["domains"]] == [[], []]

    # Started in OLD, they are as OLD made them, and NEXT takes them; their twins, made by NEW, it refuses.
    client.install_qemu("NEXT")
    for domain in planned().values():
        assert domain["rehearsal"]["verdict"] == "unsure"
        (finding,) = domain["findings"]
        assert (finding["code"], finding["severity"]) == ("rehearsal-unsure", "warning")
        assert REFUSED in finding["message"]
    report = client.upgrade("--all")
    # Nobody is told of a doubt that the move has cleared up.
    assert [(domain["result"], domain["findings"]) for domain in report["domains"]] == [("upgraded", [])] * 2, report
    for shape in (OFFICE, DATABASE):
        guests.assert_well(shape)


def test_a_rehearsal_never_outlives_virtcpr(guests: Guests) -> None:
    client.install_qemu("OLD")
    guests.start(SMALL)
    client.install_qemu("NEW")
    run(*FORGET)
    kill = (
        "until [ $(pgrep -c qemu-system) -gt 1 ]; do :; done; pkill -KILL -f '^/usr/bin/python3 /usr/.*virtcpr plan';"
        "until [ $(pgrep -c qemu-system) = 1 ]; do sleep 0.05; done"
    )
    with subprocess.Popen([str(LAB), "exec", "timeout", "60", "sh", "-c", kill]) as killer:
        done = client.virtcpr("plan", SMALL.name)
        assert killer.wait() == 0

    assert done.code in (-9, 137), done
    assert virsh("domstate", SMALL.name).strip() == "running"
    assert "small" in shell("pgrep -a qemu-system")
    guests.assert_well(SMALL)
