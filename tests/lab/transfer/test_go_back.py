"""Back to an older QEMU, by the commands of docs/go-back.md; and what clients and monitoring see (docs/faq.md)."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.client import LAB, shell, virsh
from tests.lab.support.guests import SMALL
from tests.paths import ROOT

MOVED = replace(SMALL, name="moved", number=61)
LATE = replace(SMALL, name="late", number=62)
CLEAN = {"result": "upgraded", "findings": []}


def downgrade(version: str) -> str:
    """The page's own command, for a lab without a network."""
    page = (ROOT / "docs/go-back.md").read_text()
    (command,) = re.findall(r"^    # apt-get (install --allow-downgrades .*\n.*)", page, re.MULTILINE)
    return f"OLD={version}; DEBIAN_FRONTEND=noninteractive apt-get -qy --no-download {command}"


def counters(name: str) -> dict[str, int]:
    lines = [line.strip().split("=") for line in virsh("domstats", name).splitlines() if "=" in line]
    return {key: int(value) for key, value in lines if value.isdigit()}


def results(report: dict[str, list[dict[str, object]]]) -> dict[object, dict[str, object]]:
    return {one["name"]: {key: one[key] for key in CLEAN} for one in report["domains"]}


def test_a_downgrade_is_a_move_like_any_other(guests: Guests) -> None:
    known = client.versions()
    guests.start(MOVED)
    client.install_qemu("NEW")
    report = client.upgrade("--all")
    assert results(report) == {MOVED.name: CLEAN}
    guests.start(LATE)

    shell(downgrade(known["OLD"]))
    before = {name: counters(name) for name in (MOVED.name, LATE.name)}
    command = ["virsh", "event", "--all", "--loop"]
    with subprocess.Popen(
        [str(LAB), "exec", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as listener:
        report = client.upgrade("--all")
        heard = listener.communicate(timeout=30)[0]
    assert results(report) == {MOVED.name: CLEAN, LATE.name: CLEAN}
    assert "Disconnected from qemu:///system due to end of file" in heard
    assert "events received: 0" in heard
    for guest in (MOVED, LATE):
        assert client.qemu_version(guest.name) == client.upstream(known["OLD"])
        guests.assert_well(guest)
        after = counters(guest.name)
        assert after["net.0.tx.bytes"] >= before[guest.name]["net.0.tx.bytes"]
        assert after["block.0.rd.reqs"] < before[guest.name]["block.0.rd.reqs"]
