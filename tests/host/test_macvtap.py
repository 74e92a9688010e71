"""A guest on a macvtap of a NIC of the host, with vhost-net: what it sends arrives at another NIC on the same wire."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.host.support import builds, confinement
from tests.host.support.emulator import FAR_MAC, GIVEN_MAC
from tests.host.support.guests import KVM
from tests.host.support.machine import Host
from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import REBUILD
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import SECOND_HOST_ADDRESS, watch_request
from tests.lab.support.leftovers import leftovers
from tests.lab.support.reboots import define

SHAPE = replace(KVM, name="macvtap", number=27, memory_mib=192, ram_mib=16, nics=2)
LAST_NETWORK = re.compile(r'<interface type="network">(?!.*<interface)(.*?)<source network="default" />', re.DOTALL)
NAMED = "for at in /sys/class/net/*; do grep -q {} $at/address && basename $at; done | head -n 1"


@pytest.fixture(scope="module")
def guest(host: Host) -> Iterator[Guests]:
    """The NIC below has no address; the other one on its wire has the guest's peer's."""
    run("python3", "-", stdin=REBUILD)
    below, other = (shell(NAMED.format(mac)).strip() for mac in (FAR_MAC, GIVEN_MAC))
    shell(f"ip address flush dev {below}; ip link set {other} up; ip address add {SECOND_HOST_ADDRESS} dev {other}")
    made = Guests()
    direct = rf'<interface type="direct">\1<source dev="{below}" mode="bridge" />'
    define(SHAPE, lambda xml: LAST_NETWORK.sub(direct, xml))
    made.adopt(SHAPE)
    virsh("start", SHAPE.name)
    made.watch(SHAPE)
    made.witness.ask(**watch_request(SHAPE, second_nic=True))
    made.witness.beats(SHAPE, 20, 120)
    yield made
    made.end()


def assert_works(guest: Guests) -> None:
    guest.assert_well(SHAPE, beats=40)
    assert " 0% packet loss" in run("ping", "-c", "10", "-i", "0.2", SHAPE.ip2).out
    assert leftovers() == ""


def link() -> str:
    """The guest's macvtap, as the host sees it."""
    (name,) = re.findall(r"target dev='(macvtap\d+)'", virsh("dumpxml", SHAPE.name))
    return re.sub(r"^\d+: ", "", run("ip", "-d", "-o", "link", "show", name).out)


def test_it_moves_there_and_back(guest: Guests) -> None:
    assert_works(guest)
    before, denials, seen = confinement.picture(SHAPE.name), confinement.denials(), link()
    for _ in range(2):
        process = client.pid(SHAPE.name)
        guest.witness.mark()
        builds.move(SHAPE.name)
        assert client.pid(SHAPE.name) != process
        assert_works(guest)
        assert confinement.picture(SHAPE.name) == before
        assert (link(), confinement.denials()) == (seen, denials)


def test_old_qemu_keeps_it(guest: Guests) -> None:
    guest.witness.mark()
    builds.rolled_back(SHAPE.name, "received", "kill -9 $NEW")
    assert_works(guest)
