"""libvirt is upgraded from 11.3 to the backports' under running guests; then every kind of move on that one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.host.support import confinement
from tests.host.support.guests import KVM
from tests.host.support.machine import Host
from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import REBUILD, REBUILT
from tests.lab.support.client import run, shell, virsh

BEFORE = replace(KVM, name="before", number=60, memory_mib=192, vnc=True)
AFTER = replace(BEFORE, name="after", number=61)
INSTALL = """
DEBIAN_FRONTEND=noninteractive apt-get -qy --no-download -t trixie-backports -o Dpkg::Options::=--force-unsafe-io \
    -o Dpkg::Options::=--force-confdef install --no-install-recommends \
    libvirt-daemon-system libvirt-clients libvirt-daemon-config-network
"""


@pytest.fixture(scope="module")
def upgraded(host: Host) -> Iterator[Guests]:
    """A guest that libvirt 11.3 started and one that the new libvirt did; both in QEMU OLD."""
    made = Guests()
    made.start(BEFORE)
    process = client.pid(BEFORE.name)
    shell(INSTALL, timeout=300)
    assert client.pid(BEFORE.name) == process
    made.start(AFTER)
    yield made
    made.end()


def well(guests: Guests) -> None:
    for shape in (BEFORE, AFTER):
        guests.assert_well(shape, beats=100)
        process = client.pid(shape.name)
        assert confinement.leader(shape.name) == process
        assert confinement.profile(process) == f"libvirt-{virsh('domuuid', shape.name).strip()} (enforce)"


def test_libvirt_is_the_new_one(upgraded: Guests) -> None:
    assert "Using library: libvirt 12." in virsh("version")
    well(upgraded)


def test_mode_transfer(upgraded: Guests) -> None:
    before, denials = {name: confinement.picture(name) for name in (BEFORE.name, AFTER.name)}, confinement.denials()
    client.install_qemu("NEW")
    upgraded.witness.mark()

    report = client.upgrade(BEFORE.name, AFTER.name)

    assert [d["result"] for d in report["domains"]] == ["upgraded"] * 2, report
    assert [d["findings"] for d in report["domains"]] == [[], []]
    well(upgraded)
    assert {name: confinement.picture(name) for name in (BEFORE.name, AFTER.name)} == before
    assert confinement.denials() == denials


def test_libvirt_works_on_what_was_moved(upgraded: Guests) -> None:
    for name in (BEFORE.name, AFTER.name):
        virsh("suspend", name)
        virsh("resume", name)
        run("qemu-img", "create", "-q", "-f", "raw", f"/var/lib/libvirt/images/{name}-more.raw", "8M")
        virsh("attach-disk", name, f"/var/lib/libvirt/images/{name}-more.raw", "vdx", "--targetbus", "virtio", "--live")
        virsh("detach-disk", name, "vdx", "--live")
        virsh("managedsave", name)
        virsh("start", name)
    well(upgraded)


def test_mode_reboot(upgraded: Guests) -> None:
    run("python3", "-", stdin=REBUILD)

    report = client.upgrade("--mode", "reboot", "--emulator", REBUILT, BEFORE.name, AFTER.name)

    assert [d["result"] for d in report["domains"]] == ["upgraded"] * 2, report
    well(upgraded)


def test_save_and_restore(upgraded: Guests) -> None:
    client.virtcpr("save", "--yes", "--all", check=True)
    run("systemctl", "restart", "libvirtd")
    done = json.loads(client.virtcpr("restore", "--all", "-o", "json").out)
    assert [d["result"] for d in done["domains"]] == ["restored"] * 2, done
    well(upgraded)
