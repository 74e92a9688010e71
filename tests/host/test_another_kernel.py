"""Guests are saved, the host boots another kernel, and they go on: with RAM in a file, and in persistent memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.host.support.guests import KVM
from tests.host.support.machine import Host
from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import Shape
from tests.lab.support.reboots import define

PLAIN = replace(KVM, name="plain", number=70, memory_mib=192, prepared=False)
FILED = replace(PLAIN, name="filed", number=71)
DAX = replace(PLAIN, name="dax", number=72, memory_mib=256)
UNITS = "virtcpr-save.service virtcpr-restore.service"


def report(*arguments: str, code: int = 0) -> Any:
    done = client.virtcpr(*arguments, "-o", "json")
    assert done.code == code, done
    return json.loads(done.out)


def watched_anew(guests: Guests, *shapes: Shape) -> None:
    """After a reboot of the host the observer is another; the guests are the same."""
    guests.witness = client.Witness()
    for shape in shapes:
        guests.witness.watch(shape)
        guests.assert_well(shape, beats=50)


@pytest.fixture(scope="module")
def saved(host: Host) -> Iterator[Guests]:
    """A guest whose RAM goes to the state file, one whose RAM is in a file on disk."""
    shell(
        "install -m 644 /usr/src/virtcpr/systemd/*.service /etc/systemd/system/; systemctl daemon-reload; "
        "virsh -q net-autostart default; virtcpr -q hooks install"
    )
    made = Guests()
    for shape in (PLAIN, FILED):
        define(shape)
        made.adopt(shape)
    client.virtcpr("prepare", "--yes", "--mode", "reboot", FILED.name, check=True)
    for shape in (PLAIN, FILED):
        virsh("start", shape.name)
    made.watch(PLAIN, FILED)
    yield made
    made.end()


def test_by_hand_into_another_kernel(saved: Guests, host: Host) -> None:
    before = {shape: saved.witness.report(shape)["boot_mark"] for shape in (PLAIN, FILED)}
    kernel = run("uname", "-r").out
    done = report("save", "--yes", "--all")
    assert {d["name"]: (d["result"], d["in_place"]) for d in done["domains"]} == {
        PLAIN.name: ("saved", False),
        FILED.name: ("saved", True),
    }
    saved.witness.close()

    host.reboot("backports")
    done = report("restore", "--all")

    assert run("uname", "-r").out != kernel
    assert {d["result"] for d in done["domains"]} == {"restored"}, done
    watched_anew(saved, PLAIN, FILED)
    assert {shape: saved.witness.report(shape)["boot_mark"] for shape in (PLAIN, FILED)} == before


def test_by_the_units_and_back_into_the_first_kernel(saved: Guests, host: Host) -> None:
    before = {shape: saved.witness.report(shape)["boot_mark"] for shape in (PLAIN, FILED)}
    run("systemctl", "enable", "-q", "--now", *UNITS.split())
    saved.witness.close()

    host.reboot("stable")
    run("systemctl", "start", "virtcpr-restore.service")  # it is under way: this waits for its end

    watched_anew(saved, PLAIN, FILED)
    assert {shape: saved.witness.report(shape)["boot_mark"] for shape in (PLAIN, FILED)} == before
    run("systemctl", "disable", "-q", *UNITS.split())


def test_ram_on_tmpfs_is_for_an_upgrade_only(saved: Guests, host: Host) -> None:
    """It would be gone after the reboot: `save` says so and touches nothing, or writes it to the state file."""
    virsh("destroy", FILED.name)
    shell(
        "sed -i '/^memory_backing_dir/d' /etc/libvirt/qemu.conf; "
        "echo 'memory_backing_dir = \"/dev/shm\"' >> /etc/libvirt/qemu.conf; systemctl restart libvirtd"
    )
    virsh("start", FILED.name)
    saved.watch(FILED)
    done = report("save", "--yes", FILED.name)
    (domain,) = done["domains"]
    assert (domain["result"], domain["in_place"]) == ("saved", False), domain
    done = report("restore", FILED.name)
    assert done["domains"][0]["result"] == "restored"
    saved.watch(FILED)


def prepared() -> dict[str, str]:
    """What keeps ``prepare`` from putting a guest's RAM on the device: code → remedy."""
    done = client.virtcpr("prepare", "--yes", "--mode", "reboot", "--template", "reboot-dax", "-o", "json", DAX.name)
    (domain,) = json.loads(done.out)["domains"]
    return {finding["code"]: finding["remedy"] for finding in domain["findings"] if finding["severity"] == "blocker"}


def test_the_host_lets_no_qemu_open_the_device_until_told(saved: Guests, host: Host) -> None:
    """Each finding names the lines that help; with all of them the guest starts."""
    define(DAX)
    saved.adopt(DAX)
    assert "ram-device" in prepared()
    run("ndctl", "create-namespace", "-f", "-e", "namespace0.0", "-m", "devdax", "-a", "2M", timeout=60)
    lacking = prepared()
    assert lacking.keys() == {"ram-device-user", "ram-device-acl", "ram-device-apparmor"}

    rule = lacking["ram-device-user"].partition("rules: ")[2].partition(" -- ")[0]
    shell("cat > /etc/udev/rules.d/60-virtcpr.rules; udevadm control --reload", stdin=f"{rule}\n")
    shell("udevadm trigger --settle /dev/dax0.0")
    assert prepared().keys() == {"ram-device-acl", "ram-device-apparmor"}
    acl = lacking["ram-device-acl"].partition("qemu.conf: ")[2].partition(" -- ")[0]
    shell("cat >> /etc/libvirt/qemu.conf; systemctl restart libvirtd", stdin=f"{acl}\n")
    lines = lacking["ram-device-apparmor"].split("'")[1::2]
    shell(
        "mkdir -p /etc/apparmor.d/local/abstractions; cat >> /etc/apparmor.d/local/abstractions/libvirt-qemu",
        stdin="".join(f"{line}\n" for line in lines),
    )

    assert prepared() == {}
    virsh("start", DAX.name)
    saved.watch(DAX)
    assert "/dev/dax0.0" in run("ls", "-l", f"/proc/{client.pid(DAX.name)}/fd").out


def test_ram_in_persistent_memory_is_there_after_the_reboot(saved: Guests, host: Host) -> None:
    before = saved.witness.report(DAX)["boot_mark"]
    (domain,) = report("save", "--yes", DAX.name)["domains"]
    assert (domain["result"], domain["in_place"]) == ("saved", True)
    saved.witness.close()

    host.reboot("backports")
    done = report("restore", DAX.name)

    assert [d["result"] for d in done["domains"]] == ["restored"], done
    watched_anew(saved, DAX)
    assert saved.witness.report(DAX)["boot_mark"] == before


def test_ram_that_somebody_else_wrote_to_is_not_resumed(saved: Guests) -> None:
    report("save", "--yes", DAX.name)
    shell(
        'python3 -c \'import mmap, os; fd = os.open("/dev/dax0.0", os.O_RDWR); '
        "m = mmap.mmap(fd, 2 << 20); m[:8192] = bytes(8192)'"
    )
    done = report("restore", DAX.name, code=4)
    (domain,) = done["domains"]
    assert domain["result"] == "blocked", done
    assert "its RAM on /dev/dax0.0 was written to since" in json.dumps(domain["findings"])
    report("restore", "--discard", "--yes", DAX.name)
