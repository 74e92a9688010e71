"""systemd-machined stops a machine whose leader is gone: after a swap the leader must be the new process."""

from __future__ import annotations

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import REBUILD, REBUILT
from tests.lab.support.client import run, shell
from tests.lab.support.guests import SMALL
from tests.lab.support.machined import make_a_machine_of, scope_of


def leader(machine: str) -> int:
    return int(run("machinectl", "show", "-p", "Leader", "--value", machine).out)


def test_the_leader_follows_and_a_restart_of_machined_harms_nobody(guests: Guests) -> None:
    run("python3", "-", stdin=REBUILD)
    guests.start(SMALL)
    machine = make_a_machine_of(SMALL.name)
    assert leader(machine) == client.pid(SMALL.name)

    report = client.upgrade(SMALL.name, "--emulator", REBUILT)

    assert report["domains"][0]["result"] == "upgraded", report
    assert report["domains"][0]["findings"] == []
    process = client.pid(SMALL.name)
    assert leader(machine) == process
    assert scope_of(machine) in run("cat", f"/proc/{process}/cgroup").out
    shell("systemctl restart systemd-machined; machinectl list")
    assert client.pid(SMALL.name) == process
    guests.assert_well(SMALL)
