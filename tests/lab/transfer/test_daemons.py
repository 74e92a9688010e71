"""Both ways in which a host runs libvirt's daemon: by systemd, as everywhere else in these tests, and by nobody."""

from __future__ import annotations

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import REBUILD, REBUILT, STOP_DAEMON, UNITS
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import SMALL
from tests.lab.support.machine import Lab


@pytest.fixture(scope="module", autouse=True)
def rebuilt(lab: Lab) -> None:
    run("python3", "-", stdin=REBUILD)


@pytest.mark.thorough
def test_a_daemon_without_systemd(guests: Guests) -> None:
    shell(f"{STOP_DAEMON}; libvirtd -d; virsh net-list >/dev/null")
    guests.start(SMALL)
    before = run("pidof", "libvirtd").out

    report = client.upgrade(SMALL.name, "--emulator", REBUILT)

    assert report["domains"][0]["result"] == "upgraded", report
    assert run("pidof", "libvirtd").out != before
    assert run("systemctl", "is-active", "libvirtd.service", check=False).out.strip() == "inactive"
    assert virsh("domstate", SMALL.name).strip() == "running"
    guests.assert_well(SMALL)


def test_systemds_sockets_come_back(guests: Guests) -> None:
    end = "for pid in $(pidof libvirtd); do kill $pid; timeout 60 tail --pid=$pid -f /dev/null; done"
    shell(f"{end}; systemctl start {UNITS}")
    guests.start(SMALL)

    report = client.upgrade(SMALL.name, "--emulator", REBUILT)

    assert report["domains"][0]["result"] == "upgraded", report
    active = run("systemctl", "is-active", *UNITS.split()).out.split()
    assert active == ["active"] * 4
