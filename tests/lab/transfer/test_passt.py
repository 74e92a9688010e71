"""An interface whose network is passt: new QEMU gets a process of its own for it.

The witness's heartbeats go through it, to the host itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.support.chaos import FULL
from tests.lab.support.client import run, virsh
from tests.lab.support.guests import SECOND_HOST_ADDRESS, SECOND_SUBNET
from tests.lab.support.machine import Lab
from tests.lab.support.provoke import NAME, Guest, killed_at, new_process, rehearsed, said, upgrade
from tests.lab.support.served import picture, processes

PASST = "<interface type='user'><backend type='passt'/><model type='virtio'/></interface>"
# An address of the host's in a subnet that the guest's first NIC isn't in.
OWN, HOST = f"{SECOND_SUBNET}.11", f"{SECOND_SUBNET}.1"


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Guest]:
    run("ip", "address", "replace", SECOND_HOST_ADDRESS, "dev", "virbr0")
    made = Guest(PASST, kernel_options=f"witness.ip2={OWN} witness.peer={HOST}")
    yield made
    made.end()


def test_it_moves_there_and_back(guest: Guest) -> None:
    guest.is_watched()
    assert rehearsed() == "go"
    before, first = picture(), processes().split()
    for _ in range(2):
        report = upgrade()
        (domain,) = report["domains"]
        assert (domain["result"], [f["code"] for f in domain["findings"]]) == ("upgraded", ["interface-user"]), report
        guest.assert_well(new_process(report))
        assert picture() == before
    assert not set(processes().split()) & set(first)


@pytest.mark.parametrize("step", ["attach", "received"])
def test_old_has_its_own_again(guest: Guest, step: str) -> None:
    process, before, first = guest.is_watched(), picture(), processes()
    report = upgrade(at={step: "kill -9 $NEW"})
    assert report["domains"][0]["result"] == "rolled-back", report
    assert "may not work" not in said(report)
    guest.assert_well(process)
    assert (processes(), picture()) == (first, before)


@pytest.mark.parametrize("step", ["attach", "connect"] if FULL else ["connect"])
def test_the_second_one_dies(guest: Guest, step: str) -> None:
    """New QEMU doesn't notice, but the guest would have no network."""
    process, before = guest.is_watched(), picture()
    report = upgrade(at={step: "kill -9 $(pgrep -n passt)"})
    assert report["domains"][0]["result"] == "rolled-back", report
    guest.assert_well(process)
    assert picture() == before


@pytest.mark.parametrize("step", ["migrate", "incoming", "commit", "end-old"] if FULL else ["incoming", "end-old"])
def test_virtcpr_is_killed(guest: Guest, step: str) -> None:
    """The guardian settles it, either way."""
    guest.is_watched()
    before = picture()
    guest.assert_well(killed_at(step))
    assert picture() == before


def test_libvirt_ends_it_with_the_guest_and_starts_another(guest: Guest) -> None:
    guest.is_watched()
    assert upgrade()["domains"][0]["result"] == "upgraded"
    virsh("destroy", NAME)
    run("timeout", "20", "sh", "-c", "while pgrep passt; do sleep 0.1; done")
    guest.assert_well(guest.is_watched())
