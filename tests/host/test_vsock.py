"""A guest with vsock: its CID goes from old QEMU to new, and back where the guest stays in old; connections end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.host.support import builds, confinement, vsock
from tests.host.support.guests import KVM
from tests.host.support.machine import Host
from tests.lab.conftest import Guests
from tests.lab.support import client, provoke
from tests.lab.support.builds import REBUILD
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.leftovers import leftovers
from tests.lab.support.reboots import define

SHAPE = replace(KVM, name="vsock", number=24, memory_mib=192, ram_mib=16)
SHAPE = replace(SHAPE, kernel_options=f"{SHAPE.kernel_options} witness.vsock=1")
CID = 11
DEVICE = f"<vsock model='virtio'><cid auto='no' address='{CID}'/></vsock>"
# libvirt's own profiles let no QEMU get one while it runs (AppArmor, file_receive).
MAY_BE_ATTACHED = "echo '/dev/vhost-vsock rw,' >> /etc/apparmor.d/local/abstractions/libvirt-qemu"
WELL = "20: well"
# Whichever it hears first: that it is ended, or that nobody has the CID.
ENDED = r"\d+: (Connection reset by peer|No such device)"


@pytest.fixture(scope="module")
def talking(host: Host) -> Iterator[Guests]:
    """A guest with vsock, and another build beside the one it runs in."""
    client.install_qemu("NEW")
    run("python3", "-", stdin=REBUILD)
    shell(MAY_BE_ATTACHED)
    made = Guests()
    define(SHAPE, lambda xml: xml.replace("</devices>", f"{DEVICE}</devices>"))
    made.adopt(SHAPE)
    virsh("start", SHAPE.name)
    made.watch(SHAPE)
    yield made
    made.end()


def move() -> None:
    builds.move(SHAPE.name, "vsock-connections")


def assert_works(guests: Guests) -> None:
    assert WELL in vsock.answers(CID)
    guests.assert_well(SHAPE, beats=40)
    assert leftovers() == ""


def await_ended_in_the_guest(connections: int) -> None:
    """Wait until the guest has seen these many end.

    It says so with their number, on a console that may lose a line.  So it is made to say it again, by one more.
    """
    for more in range(5):
        command = f"tr -d '\\r' < {SHAPE.serial_path} | sed -n 's/.*vsock connections ended: //p' | sort -n | tail -1"
        enough = f'[ "$({command})" -ge {connections + more} ]'
        if run("timeout", "20", "sh", "-c", f"until {enough}; do sleep 0.2; done", check=False).code == 0:
            return
        assert WELL in vsock.answers(CID)
    pytest.fail(f"of {connections} connections the guest says: {shell(command)}")


def test_it_moves_there_and_back(talking: Guests) -> None:
    """The connection ends on both sides, and lacks nothing until then; the next reaches the guest in new QEMU."""
    assert_works(talking)
    before, denials = confinement.picture(SHAPE.name), confinement.denials()
    for moves in (1, 2):
        process, connection = client.pid(SHAPE.name), vsock.Connection(CID)
        talking.witness.mark()

        move()

        assert client.pid(SHAPE.name) != process
        assert re.fullmatch(ENDED, connection.end())
        assert_works(talking)
        await_ended_in_the_guest(1 + 2 * moves)
    assert confinement.picture(SHAPE.name) == before
    assert confinement.denials() == denials


ROLLED_BACK = [
    ("arm", "kill -9 $NEW"),
    ("incoming", "kill -9 $NEW"),
    ("incoming", "kill -INT $PPID"),
    ("received", "kill -9 $NEW"),
]


@pytest.mark.parametrize(("step", "happening"), ROLLED_BACK, ids=[f"{step}-{what[5:]}" for step, what in ROLLED_BACK])
def test_old_qemu_has_its_cid_back(talking: Guests, step: str, happening: str) -> None:
    connection = vsock.Connection(CID)
    talking.witness.mark()

    report = builds.rolled_back(SHAPE.name, step, happening)

    assert "its vsock connections have ended" in provoke.said(report)
    assert_works(talking)
    assert re.fullmatch(ENDED, connection.end())


@pytest.mark.parametrize("step", ["migrate", "attach", "incoming", "received", "commit", "end-old"])
def test_the_guardian_settles_it(talking: Guests, step: str) -> None:
    """virtcpr is killed: whichever QEMU has the guest has its CID."""
    talking.witness.mark()

    builds.killed(SHAPE.name, step)

    assert_works(talking)


def test_one_that_is_attached(talking: Guests) -> None:
    """libvirt takes it out of new QEMU, and puts another in; that one moves, too."""
    move()
    for action in ("detach-device", "attach-device"):
        shell(f"virsh -q {action} {SHAPE.name} /dev/stdin --live", stdin=DEVICE)
        there = "!" if action == "detach-device" else ""
        run(
            "timeout",
            "60",
            "sh",
            "-c",
            f"until {there} virsh dumpxml {SHAPE.name} | grep -q '<vsock'; do sleep 0.2; done",
        )
    talking.witness.mark()
    move()
    assert_works(talking)


def test_by_mode_reboot(talking: Guests) -> None:
    """libvirt starts it there, and gives the CID to new QEMU; old is gone by then."""
    virsh("destroy", SHAPE.name)
    virsh("start", SHAPE.name)
    talking.watch(SHAPE)
    connection = vsock.Connection(CID)
    talking.witness.mark()

    (domain,) = client.upgrade("--mode", "reboot", "--emulator", builds.other(SHAPE.name), SHAPE.name)["domains"]

    assert domain["result"] == "upgraded", domain
    assert_works(talking)
    assert re.fullmatch(ENDED, connection.end())


def test_two_guests_with_a_cid_each(talking: Guests) -> None:
    """A move of one ends no connection of another."""
    second = replace(SHAPE, name="vsock2", number=25)
    define(second, lambda xml: xml.replace("</devices>", f"{DEVICE.replace(str(CID), str(CID + 1))}</devices>"))
    talking.adopt(second)
    virsh("start", second.name)
    talking.watch(SHAPE, second)
    connection = vsock.Connection(CID + 1)

    move()

    assert WELL in vsock.answers(CID + 1)
    virsh("destroy", second.name)
    assert re.fullmatch(ENDED, connection.end())


def test_what_was_never_run_is_refused(talking: Guests) -> None:
    """Another model; mode live."""
    odd = virsh("dumpxml", SHAPE.name).replace("<vsock model='virtio'>", "<vsock model='virtio-transitional'>")
    (domain,) = json.loads(run("virtcpr", "check", "--xml", "-", "-o", "json", stdin=odd, check=False).out)["domains"]
    assert "vsock-setting" in {finding["code"] for finding in domain["findings"]}
    (domain,) = client.upgrade("--mode", "live", "--emulator", builds.other(SHAPE.name), SHAPE.name)["domains"]
    assert domain["result"] == "blocked"
    assert "vsock" in {finding["code"] for finding in domain["findings"]}
