"""Mode transfer on a real host's terms: KVM, vhost-net, an enforced AppArmor profile, machined's scope."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.host.support import confinement
from tests.host.support.guests import KVM
from tests.host.support.machine import Host
from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILD, REBUILT
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import Shape
from tests.lab.support.reboots import define

VHOST = replace(KVM, name="vhost")
CALM = replace(KVM, memory_mib=192, ram_mib=16)
PASSTHROUGH = '<cpu mode="host-passthrough" check="none" migratable="on" />'
QUEUES = replace(CALM, name="queues", number=21, vcpus=4)
NAMED = (
    '<cpu mode="custom" match="exact" check="none"><model fallback="allow">Opteron_G2</model>'
    '<feature policy="require" name="x2apic" /></cpu>'
    '<clock offset="utc"><timer name="rtc" tickpolicy="catchup" /><timer name="pit" tickpolicy="delay" />'
    '<timer name="hpet" present="no" /><timer name="kvmclock" present="yes" /></clock>'
)
WINDOWS = replace(CALM, name="windows", number=22, machine="pc")
HYPERV = (
    '<apic /><hyperv mode="custom"><relaxed state="on" /><vapic state="on" /><spinlocks state="on" retries="8191" />'
    '<vpindex state="on" /><runtime state="on" /><synic state="on" /><stimer state="on" /><reset state="on" />'
    '<frequencies state="on" /></hyperv>'
)
HYPERV_CLOCK = '<clock offset="localtime"><timer name="hypervclock" present="yes" /></clock>'


def queues(xml: str) -> str:
    return xml.replace('<driver name="vhost" />', '<driver name="vhost" queues="4" />').replace(PASSTHROUGH, NAMED)


def hyperv(xml: str) -> str:
    return xml.replace("<apic />", HYPERV).replace(PASSTHROUGH, PASSTHROUGH + HYPERV_CLOCK)


# No OVMF: it writes CR8 at each tick of its clock, at which the emulator of the host ends sooner or later (QEMU 10.0
# and 11.1.3, helper_write_crN() in target/i386/tcg/system/misc_helper.c, without the lock that cpu_interrupt() wants).
KINDS: dict[Shape, Callable[[str], str]] = {VHOST: str, QUEUES: queues, WINDOWS: hyperv}


def clock(shape: Shape) -> str:
    """What Linux in the guest takes the time from, in its newest words."""
    newest = "grep -o 'clock=[a-z_-]*' {0} | tail -n 1"
    return shell(f"until grep -q clock= {shape.serial_path}; do sleep 1; done; {newest.format(shape.serial_path)}")


def test_a_kvm_guest_with_vhost_net_moves(guests: Guests, host: Host) -> None:
    new = client.upstream(client.versions()["NEW"])
    guests.start(VHOST)
    old_process, before, denials = client.pid(VHOST.name), confinement.picture(VHOST.name), confinement.denials()
    assert f"profile: libvirt-{virsh('domuuid', VHOST.name).strip()} (enforce)" in before
    assert "vhosts: 1" in before
    assert all(confinement.scope(VHOST.name) in line for line in before if line.startswith("thread "))
    client.install_qemu("NEW")
    guests.witness.mark()

    report = client.upgrade(VHOST.name)

    assert [d["result"] for d in report["domains"]] == ["upgraded"], report
    assert report["domains"][0]["findings"] == []
    guests.assert_well(VHOST)
    process = client.pid(VHOST.name)
    assert client.qemu_version(VHOST.name) == new
    assert client.monitor(VHOST.name, "query-kvm") == {"enabled": True, "present": True}
    assert process != old_process
    assert confinement.picture(VHOST.name) == before
    assert confinement.denials() == denials
    assert confinement.leader(VHOST.name) == process


@pytest.fixture(scope="module", params=KINDS, ids=lambda shape: shape.name)
def kind(host: Host, request: pytest.FixtureRequest) -> Iterator[tuple[Guests, Shape]]:
    """A guest of this kind, started in QEMU OLD, and no other beside it: each of several has been reset by itself, or
    the emulated host was, which emulates SVM for all of them."""
    shape: Shape = request.param
    client.install_qemu("OLD")
    made = Guests()
    define(shape, KINDS[shape])
    made.adopt(shape)
    virsh("start", shape.name)
    made.watch(shape)
    yield made, shape
    made.end()


@pytest.mark.parametrize("to", ["NEW", "OLD", "NEXT", REBUILT])
def test_every_kind_moves(kind: tuple[Guests, Shape], to: str) -> None:
    """10.0.2 → 10.0.13 → 10.0.2; 10.0.2 → 11.1.3 → another build of that.  The clock goes on, and loses the pause at
    most."""
    guests, shape = kind
    if to == "NEXT":  # it doesn't load guests that have been in 10.0.13, not even by way of 10.0.2
        virsh("destroy", shape.name)
        virsh("start", shape.name)
        guests.watch(shape)
    emulator = EMULATOR
    if to == REBUILT:
        run("python3", "-", stdin=REBUILD)
        emulator = REBUILT
    else:
        client.install_qemu(to)
    before, denials, time_source = confinement.picture(shape.name), confinement.denials(), clock(shape)
    guests.witness.mark()

    report = client.upgrade("--emulator", emulator, shape.name)

    assert [d["result"] for d in report["domains"]] == ["upgraded"], report
    guests.assert_well(shape, beats=50)
    seen = guests.witness.report(shape)
    assert -seen["pause_ms"] - 200 < seen["clock_ms"] < 200, seen
    assert clock(shape) == time_source
    assert confinement.picture(shape.name) == before
    assert confinement.denials() == denials
    assert confinement.leader(shape.name) == client.pid(shape.name)
