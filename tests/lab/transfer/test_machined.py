"""systemd-machined stops a machine whose leader is gone: after a swap the leader must be the new process."""

from __future__ import annotations

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client, provoke
from tests.lab.support.builds import REBUILD, REBUILT
from tests.lab.support.client import run, shell
from tests.lab.support.guests import SMALL
from tests.lab.support.machined import make_a_machine_of, scope_of


def leader(machine: str) -> int:
    return int(run("machinectl", "show", "-p", "Leader", "--value", machine).out)


def test_the_leader_follows_and_a_restart_of_machined_harms_nobody(guests: Guests) -> None:
    machine = is_a_machine(guests)
    assert leader(machine) == client.pid(SMALL.name)

    report = client.upgrade(SMALL.name, "--emulator", REBUILT)

    assert report["domains"][0]["result"] == "upgraded", report
    assert report["domains"][0]["findings"] == []
    assert_led(guests, machine)


PARKED = ("--mode", "parked")
OLD_IS_KILLED = {"machined": "kill -9 $OLD"}


@pytest.mark.parametrize(
    ("how", "at"),
    [((), OLD_IS_KILLED), (PARKED, {}), (PARKED, {"load": "kill -9 $NEW"})],
    ids=["killed", "parked", "started-again"],
)
def test_a_leader_that_has_ended_is_followed(guests: Guests, how: tuple[str, ...], at: dict[str, str]) -> None:
    machine = is_a_machine(guests)

    report = provoke.upgrade(more=how, at=at)

    assert report["domains"][0]["result"] == ("rolled-back" if "load" in at else "upgraded"), report
    assert_led(guests, machine)


def test_recovery_lets_it_follow(guests: Guests) -> None:
    machine = is_a_machine(guests)

    provoke.killed_at("commit", "--emulator", REBUILT, kill="kill -9 $OLD $PPID")

    assert_led(guests, machine)


def is_a_machine(guests: Guests) -> str:
    """A guest of which systemd-machined knows, and another build; the machine's name."""
    run("python3", "-", stdin=REBUILD)
    guests.start(SMALL)
    return make_a_machine_of(SMALL.name)


def assert_led(guests: Guests, machine: str) -> None:
    process = client.pid(SMALL.name)
    assert leader(machine) == process
    assert scope_of(machine) in run("cat", f"/proc/{process}/cgroup").out
    shell("systemctl restart systemd-machined; machinectl list")
    assert client.pid(SMALL.name) == process
    guests.assert_well(SMALL)
    client.remove(SMALL.name)
