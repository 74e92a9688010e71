"""`upgrade --watch`: a guest in trouble after its move is taken back, once, and every record says why."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.client import LAB, run, shell, virsh
from tests.lab.support.guests import SMALL
from tests.lab.support.leftovers import leftovers
from tests.lab.support.machine import Lab

FRAIL = replace(SMALL, name="frail", number=31, memory_mib=192, ram_mib=16, agent=True, panics=True)
SOUND = replace(SMALL, name="sound", number=32, memory_mib=192, ram_mib=16)
LAST = replace(SMALL, name="zlast", number=33, memory_mib=192, ram_mib=16)
BUILDS = "/var/lib/virtcpr-builds/"
HOOKS = "/etc/virtcpr/hooks.d"
JUDGE = """#!/bin/sh
[ "$1" = watch-domain ] || exit 0
grep -q '"name": "sound"' || exit 0
echo its web server answers 500 >&2
exit 1
"""


@pytest.fixture(scope="module")
def three(lab: Lab) -> Iterator[Guests]:
    made = Guests()
    made.start(FRAIL, SOUND, LAST)
    client.install_qemu("NEW")
    yield made
    made.end()


@contextmanager
def upgrading(*arguments: str) -> Iterator[Any]:
    command = [str(LAB), "exec", "virtcpr", "-v", "upgrade", "--yes", "-o", "json", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process


def ended(process: Any) -> Any:
    out, errors = process.communicate(timeout=180)
    assert out, errors
    return json.loads(out)


def await_program(name: str, kept: bool) -> None:
    """Wait until a guest runs in a kept build, or in the installed one."""
    deadline = time.monotonic() + 60
    while run("readlink", f"/proc/{client.pid(name)}/exe", check=False).out.startswith(BUILDS) != kept:
        assert time.monotonic() < deadline, name
        time.sleep(0.2)


def await_process(name: str, other_than: int) -> None:
    """Wait until libvirt has another process for a guest, and answers."""
    deadline = time.monotonic() + 60
    while client.pid(name) == other_than or run("virsh", "domstate", name, check=False).code:
        assert time.monotonic() < deadline, name
        time.sleep(0.2)


def results(report: Any) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {one["name"]: (one["result"], tuple(f["code"] for f in one["findings"])) for one in report["domains"]}


def last_entries(number: int) -> list[tuple[object, ...]]:
    entries = json.loads(client.virtcpr("history", "-o", "json", "-n", str(number)).out)["entries"]
    return [(entry["name"], entry["batch"], entry["undoes"], entry["why"]) for entry in entries]


def test_a_guest_that_panics_is_taken_back(three: Guests) -> None:
    """The others of its wave stay; the next wave isn't begun."""
    before = {name: client.pid(name) for name in ("frail", "sound", "zlast")}

    with upgrading("--all", "--wave", "2", "--watch", "40") as process:
        await_process("frail", before["frail"])
        three.witness.beats(FRAIL, 100)  # it is well for a while
        virsh("qemu-agent-command", "frail", '{"execute": "guest-exec", "arguments": {"path": "/panic"}}', check=False)
        report = ended(process)

    assert report["exit_code"] == 3, report
    assert results(report) == {
        "frail": ("rolled-back", ("sign",)),
        "sound": ("upgraded", ()),
        "zlast": ("rolled-back", ("rolled-back",)),
    }
    assert "the guest panicked" in report["domains"][0]["findings"][0]["message"]
    await_program("frail", kept=True)
    await_program("sound", kept=False)
    assert client.pid("zlast") == before["zlast"]
    assert last_entries(4) == [
        ("frail", 1, None, None),
        ("sound", 1, None, None),
        ("frail", 1, 1, "the guest panicked"),
        ("zlast", 1, None, None),
    ]
    listed = json.loads(run("virtcpr", "list", "-o", "json").out)["domains"]
    assert [domain["name"] for domain in listed if domain["outdated"]] == ["frail", "zlast"]
    three.assert_well(SOUND)
    assert leftovers() == ""


def test_a_program_of_the_administrators_takes_the_wave_back(three: Guests) -> None:
    shell(f"mkdir -p {HOOKS}; cat > {HOOKS}/judge; chmod +x {HOOKS}/judge", stdin=JUDGE)
    client.virtcpr("undo", "--yes")  # sound, which is left of batch 1
    before = client.pid("sound")

    report = client.upgrade("sound", "zlast", "--watch", "1m", "--go-back", "wave")

    assert report["exit_code"] == 5, report
    assert results(report) == {"sound": ("rolled-back", ("sign",)), "zlast": ("rolled-back", ("sign",))}
    said = {one["name"]: one["findings"][0]["message"] for one in report["domains"]}
    assert "its web server answers 500" in said["sound"]
    assert "another guest of its wave showed a sign of trouble" in said["zlast"]
    assert client.pid("sound") != before
    for guest in (SOUND, LAST):
        await_program(guest.name, kept=True)
        three.assert_well(guest)
    run("rm", "-r", HOOKS)


def test_what_cannot_go_back_is_told_before_and_afterwards(three: Guests) -> None:
    client.install_qemu("NEXT")
    process = client.pid("zlast")
    shell(f"mkdir -p {HOOKS}; cat > {HOOKS}/judge; chmod +x {HOOKS}/judge", stdin=JUDGE.replace("sound", "zlast"))

    report = client.upgrade("zlast", "--watch", "30s")

    ((result, codes),) = results(report).values()
    assert (report["exit_code"], result, codes) == (1, "failed", ("one-way", "sign-stays")), report
    assert "vmstate_load_state error -2" in report["domains"][0]["findings"][0]["message"]
    assert client.pid("zlast") != process
    three.assert_well(LAST)
    run("rm", "-r", HOOKS)


def test_a_signal_ends_the_watch(three: Guests) -> None:
    """What was moved stays."""
    before = client.pid("sound")
    with upgrading("sound", "--watch", "10m") as process:
        await_process("sound", before)
        shell("kill -INT $(cat /run/virtcpr/lock)")
        report = ended(process)
    assert (report["exit_code"], results(report)["sound"][0]) == (0, "upgraded"), report
    three.assert_well(SOUND)


def test_without_a_kept_build_nothing_is_watched(three: Guests) -> None:
    shell("mkdir -p /etc/virtcpr; printf '[keep]\nbuilds = 0\n' > /etc/virtcpr/virtcpr.toml")
    done = client.virtcpr("upgrade", "--yes", "--all", "--force", "--watch", "5m")
    assert done.code == 2
    assert "guests that are watched need a way back, and keep.builds in virtcpr.toml is 0" in done.err
