"""Waves: a canary, then three at a time; after a failure the rest isn't touched, and all records say the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import SMALL
from tests.lab.support.leftovers import leftovers
from tests.lab.support.machine import Lab

FLEET = tuple(
    replace(SMALL, name=f"w{number}", number=30 + number, memory_mib=192, ram_mib=16, serial="file", agent=number == 1)
    for number in range(1, 10)
)
NAMES = [shape.name for shape in FLEET]
WRAPPER = f"{EMULATOR}-wrapped"
METRICS = "/var/lib/virtcpr.prom"
PLUGIN = "/usr/src/virtcpr/packages/monitoring/check_virtcpr"
HOOKS, TOLD = "/etc/virtcpr/hooks.d", "/root/told"
TELL = f"""#!/bin/sh
document=$(cat)
echo "$1 $document" >> {TOLD}
case "$1 $document" in before-domain*w8*) echo its backup runs >&2; exit 1;; esac
"""


def emulator_that_dies_for(name: str) -> None:
    """Its twin has no name, so it goes through the rehearsal."""
    script = f'#!/bin/sh\ncase "$*" in *guest={name}*) exit 1;; esac\nexec {EMULATOR} "$@"\n'
    shell(f"cat > {WRAPPER}; chmod +x {WRAPPER}", stdin=script)


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> Iterator[Guests]:
    """Nine guests in OLD; NEW is installed.  The first is watched, the others needn't have booted."""
    shell(f"mkdir -p /etc/virtcpr; printf '[results]\nprometheus = \"{METRICS}\"\n' > /etc/virtcpr/virtcpr.toml")
    made = Guests()
    made.start(FLEET[0])  # it has an agent
    made.start(*FLEET[1:], watch=False)
    client.install_qemu("NEW")
    yield made
    made.end()


def processes() -> dict[str, int]:
    return {name: client.pid(name) for name in NAMES}


def results(report: Any) -> str:
    """A letter for each domain: upgraded, rolled back, current."""
    return "".join(domain["result"][0] for domain in report["domains"])


def outdated() -> list[str]:
    listed = json.loads(run("virtcpr", "list", "-o", "json").out)["domains"]
    return [domain["name"] for domain in listed if domain["outdated"]]


def test_after_a_failure_no_other_wave_is_begun(fleet: Guests) -> None:
    """The fifth fails: the two of its wave are moved, the last two aren't touched."""
    emulator_that_dies_for("w5")
    before = processes()
    fleet.witness.mark()

    report = client.upgrade("--all", "--canary", "1", "--wave", "3", "--emulator", WRAPPER)

    assert (report["exit_code"], results(report)) == (3, "uuuuruurr"), report
    assert report["blackouts"]["times"] == 3
    after = processes()
    assert [name for name in NAMES if after[name] == before[name]] == ["w5", "w8", "w9"]
    for domain in report["domains"][7:]:
        (finding,) = domain["findings"]
        assert "w5 wasn't moved; this one wasn't touched; the guest runs on in old QEMU" in finding["message"]
    assert outdated() == ["w5", "w8", "w9"]
    history = json.loads(run("virtcpr", "history", "-o", "json").out)["entries"]
    assert "".join(entry["result"][0] for entry in history) == "uuuuruurr"
    count = "journalctl -o cat --output-fields=VIRTCPR_DOMAIN SYSLOG_IDENTIFIER=virtcpr VIRTCPR_RESULT=upgraded | wc -l"
    assert int(shell(count)) == 6
    assert "virtcpr_outdated_domains 3" in shell(f"cat {METRICS}")
    told = json.loads(run("virtcpr", "report", "-o", "json").out)
    assert "".join(entry["result"][0] for entry in told["entries"]) == "uuuuruurr"
    assert {len(build["domains"]): build["outdated"] for build in told["builds"]} == {3: True, 6: False}
    (fixed,) = [build["fixes"] for build in told["builds"] if build["outdated"]]
    assert len(fixed) > 20, "Debian's 10.0.13 names many that 10.0.2 lacks"
    (why,) = [entry["findings"][0]["message"] for entry in told["entries"] if entry["name"] == "w5"]
    assert why == report["domains"][4]["findings"][0]["message"]
    watched = run(PLUGIN, check=False)
    assert (watched.code, watched.out.startswith("VIRTCPR WARNING - 3 of 9 ")) == (1, True), watched
    fleet.assert_well(FLEET[0])
    assert leftovers() == ""


def test_groups_by_tags(fleet: Guests) -> None:
    for name, tags in (("w5", "test spare"), ("w9", "special")):
        setting = ("--key", "virtcpr-tags", "--set", f"<tags>{tags}</tags>", "--live", "--config")
        virsh("metadata", name, "urn:virtcpr:tags:1", *setting)
    planned = json.loads(run("virtcpr", "plan", "--all", "--no-rehearse", "--exclude", "tag:sp*", "-o", "json").out)
    assert [domain["name"] for domain in planned["domains"]] == [name for name in NAMES if name not in ("w5", "w9")]
    before = processes()
    report = client.upgrade("--all", "--canary", "tag:spare", "--emulator", WRAPPER)
    assert (report["exit_code"], results(report)) == (5, "ccccrccrr"), report
    assert "the canary w5 wasn't moved" in report["domains"][7]["findings"][0]["message"]
    assert processes()["w8"] == before["w8"]


def test_a_canary_that_fails_keeps_all_others_from_being_moved(fleet: Guests) -> None:
    before = processes()

    report = client.upgrade("--all", "--exclude", "w9", "--canary", "w5", "--emulator", WRAPPER)

    assert (report["exit_code"], results(report)) == (5, "ccccrccr"), report
    assert "the canary w5 wasn't moved" in report["domains"][7]["findings"][0]["message"]
    assert processes() == before


def test_programs_are_asked_and_told(fleet: Guests) -> None:
    """One objects to w8; each event comes once, with what it is about."""
    emulator_that_dies_for("nobody")
    shell(f"mkdir -p {HOOKS}; cat > {HOOKS}/10-tell; chmod +x {HOOKS}/10-tell", stdin=TELL)
    before = processes()

    report = client.upgrade("--all", "--wave", "2", "--emulator", WRAPPER)

    assert (report["exit_code"], results(report)) == (3, "ccccuccbu"), report
    (finding,) = report["domains"][7]["findings"]
    assert finding["code"] == "vetoed"
    assert finding["message"].endswith("before-domain: its backup runs")
    assert processes()["w8"] == before["w8"]
    told = [line.split(maxsplit=1) for line in run("cat", TOLD).out.splitlines()]
    documents = [json.loads(document) for _, document in told]
    assert [event for event, _ in told] == [document["event"] for document in documents]
    about = [(one["event"], one["wave"]["number"], *(domain["name"] for domain in one["domains"])) for one in documents]
    assert about == [
        ("before-wave", 1, "w5", "w8"), ("before-domain", 1, "w5"), ("before-domain", 1, "w8"),
        ("after-domain", 1, "w5"), ("after-domain", 1, "w8"), ("after-wave", 1, "w5", "w8"),
        ("before-wave", 2, "w9"), ("before-domain", 2, "w9"), ("after-domain", 2, "w9"), ("after-wave", 2, "w9"),
    ]  # fmt: skip
    (moved,) = documents[3]["domains"]
    assert (moved["result"], moved["to"]["pid"], moved["mode"]) == ("upgraded", client.pid("w5"), "transfer")
    assert moved["pause_ms"] > 0
    run("rm", "-r", HOOKS)


@pytest.mark.parametrize(
    ("command", "veto", "result", "words"),
    [
        ("/note", "yes", "upgraded", ""),
        ("/refuse", "no", "upgraded", ""),
        ("/refuse", "yes", "blocked", "/refuse before-pause in the guest failed (exit code 1)"),
        ("/hang", "yes", "blocked", "/hang before-pause in the guest took more than 1 s"),
    ],
)
def test_the_guest_is_told(fleet: Guests, command: str, veto: str, result: str, words: str) -> None:
    """By its agent; the witness says on its console what it was asked to run."""
    emulator_that_dies_for("nobody")
    notice = f'<notice command="{command}" timeout="1" veto="{veto}"/>'
    virsh("metadata", "w1", "urn:virtcpr:notice:1", "--key", "virtcpr-notice", "--set", notice, "--live")
    console = FLEET[0].serial_path
    before, lines = client.pid("w1"), int(shell(f"wc -l < {console}"))

    report = client.upgrade("w1", "--force", "--emulator", WRAPPER)
    virsh("metadata", "w1", "urn:virtcpr:notice:1", "--remove", "--live")

    (domain,) = report["domains"]
    assert domain["result"] == result, report
    assert (client.pid("w1") == before) == (result == "blocked")
    ran = [f"exec {command} before-pause", f"exec {command} after-pause"]
    said = shell(f"tail -n +{lines + 1} {console}")
    assert [line.partition(": ")[2].strip() for line in said.splitlines() if "exec " in line] == ran
    if words:
        (finding,) = domain["findings"]
        assert (finding["code"], finding["message"]) == ("guest-vetoed", f"the guest objected: {words}")
    fleet.assert_well(FLEET[0])
    assert leftovers() == ""


def test_the_rest_is_moved_with_pauses_between(fleet: Guests) -> None:
    """With the daemon back meanwhile."""
    emulator_that_dies_for("nobody")

    report = client.upgrade(
        "w1", "w2", "w8", "--canary", "w8", "--wave", "1", "--pause-between", "2", "--force", "--emulator", WRAPPER
    )

    assert (report["exit_code"], results(report)) == (0, "uuu"), report
    assert report["blackouts"]["times"] == 3
    assert outdated() == []
    fleet.assert_well(FLEET[0])
