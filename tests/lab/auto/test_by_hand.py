"""Moves by hand while virtcpr.toml has recipients: the journal, the history and Prometheus hear of them, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.client import run, shell
from tests.lab.support.guests import SMALL
from tests.lab.support.machine import Lab
from virtcpr.actions.records.system_journal import DOMAIN_ID

WEB, DB = (replace(SMALL, name=name, number=66 + n, memory_mib=160, ram_mib=16) for n, name in enumerate(("web", "db")))
METRICS = "/var/lib/node-exporter/virtcpr.prom"
KILLED = """
virtcpr upgrade web --yes 2>/tmp/err >/dev/null &
p=$!
timeout 60 sh -c 'until grep -q "web: commit" /tmp/err; do sleep .01; done'
kill -9 $p
timeout 60 sh -c 'until [ -z "$(ls /run/virtcpr/journal)" ] && virsh list >/dev/null 2>&1; do sleep .2; done'
"""


@pytest.fixture(scope="module", autouse=True)
def outdated(lab: Lab) -> Iterator[Guests]:
    """Two guests on QEMU OLD, NEW installed; they are only reported."""
    shell("mkdir -p /etc/virtcpr /var/lib/node-exporter; cat >/etc/virtcpr/virtcpr.toml", stdin=TOML)
    guests = Guests()
    guests.start(WEB, DB)
    client.install_qemu("NEW")
    yield guests
    guests.end()


TOML = f'[results]\nprometheus = "{METRICS}"\n'


def records() -> list[dict[str, str]]:
    return list(map(json.loads, run("journalctl", "-b", "-o", "json", f"MESSAGE_ID={DOMAIN_ID}").out.splitlines()))


def history() -> list[Any]:
    entries: list[Any] = json.loads(client.virtcpr("history", "-o", "json", check=True).out)["entries"]
    return entries


def test_a_move_by_hand_resolves_the_alert(outdated: Guests) -> None:
    run("virtcpr", "auto")
    assert "virtcpr_outdated_domains 2\n" in run("cat", METRICS).out

    done = client.virtcpr("upgrade", "db", "--yes")

    assert done.code == 0, done
    assert len([line for line in done.err.splitlines() if ": db: " in line]) <= 3, done.err
    outdated.assert_well(DB, beats=50)
    metrics = run("cat", METRICS).out
    assert "virtcpr_outdated_domains 1\n" in metrics
    assert 'virtcpr_pause_seconds{domain="db"} 0.' in metrics
    last = records()[-1]
    assert (last["VIRTCPR_DOMAIN"], last["VIRTCPR_RESULT"], last["SYSLOG_IDENTIFIER"]) == ("db", "upgraded", "virtcpr")


def test_a_move_that_the_guardian_settled_is_in_the_history(outdated: Guests) -> None:
    run("sh", "-c", KILLED, timeout=180)
    outdated.assert_well(WEB, beats=50)
    last = history()[-1]
    assert (last["name"], last["result"]) in (("web", "upgraded"), ("web", "rolled-back"))
    runs = client.qemu_version("web")
    assert runs == last["to" if last["result"] == "upgraded" else "from"].partition(" ")[0]
    assert (records()[-1]["VIRTCPR_DOMAIN"], records()[-1]["VIRTCPR_RESULT"]) == ("web", last["result"])
    assert "virtcpr: web: " in run("journalctl", "-b", "-t", "virtcpr", "-o", "cat").out, "the guardian's own line"
    assert client.virtcpr("recover", "--all").code == 0
