"""`upgrade --mode reboot` on real guests: to a file, ended, started again by libvirt; then all that libvirt does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILD, REBUILT
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import DATABASE, IMAGES, SMALL
from tests.lab.support.machine import Lab
from tests.lab.support.reboots import LEFTOVER, RAM, define, nothing_left, reboot

PLACED = replace(SMALL, name="placed", number=20, prepared=False, agent=True)
STORED = replace(DATABASE, name="stored", number=21)
NEVER = replace(SMALL, name="never", number=22, prepared=False)
# What is another at every start of a domain.
CHANGES = (
    r"<domain type='qemu' id='\d+'",
    r"<alias name='[^']*'/>",
    r"dev='vnet\d+'",
    r"/\d+-\w+/",
    r"/dev/pts/\d+",
    r"portid='[^']*'",
    r" index='\d+'/?>",
    r"<emulator>.*?</emulator>",
)


@pytest.fixture(scope="module", autouse=True)
def rebuilt(lab: Lab) -> None:
    run("python3", "-", stdin=REBUILD)


def devices(name: str) -> list[str]:
    """The live XML without what is another at every start, and without its order: what was attached is sorted in."""
    text = virsh("dumpxml", name)
    for what in CHANGES:
        text = re.sub(what, "", text)
    return sorted(text.splitlines())


@pytest.fixture(scope="module")
def travellers(lab: Lab) -> Iterator[Guests]:
    """A guest whose RAM stays in its file, with a disk that was attached since, and one whose RAM goes to the file."""
    guests = Guests()
    define(PLACED)
    for mode in ("transfer", "reboot"):
        client.virtcpr("prepare", "--yes", "--mode", mode, PLACED.name, check=True)
    guests.adopt(PLACED)
    virsh("start", PLACED.name)
    guests.start(STORED)
    guests.watch(PLACED)
    run("truncate", "-s", "8M", f"{IMAGES}/attached.raw")
    virsh("attach-disk", PLACED.name, f"{IMAGES}/attached.raw", "vdz", "--targetbus", "virtio", "--live")
    yield guests
    guests.end()


def test_there_by_reboot_then_transfer_then_reboot(travellers: Guests) -> None:
    shapes = (PLACED, STORED)
    names = tuple(shape.name for shape in shapes)
    before, stored = {name: devices(name) for name in names}, virsh("dumpxml", "--inactive", PLACED.name)
    uuids = [virsh("domuuid", name) for name in names]
    client.install_qemu("NEW")
    travellers.witness.mark()

    done = reboot(*names)

    for shape in shapes:
        travellers.assert_well(shape)
    nothing_left(*names)
    assert {name: devices(name) for name in names} == before
    assert virsh("dumpxml", "--inactive", PLACED.name) == stored
    assert [virsh("domuuid", name) for name in names] == uuids
    assert {client.qemu_version(name) for name in names} == {client.upstream(client.versions()["NEW"])}
    assert [one["mode"] for one in done] == ["reboot", "reboot"]
    assert all(isinstance(one["pause_ms"], float) for one in done)
    assert f"{RAM}/" in run("cat", f"/proc/{client.pid(PLACED.name)}/cmdline").out

    report = client.upgrade("--mode", "transfer", "--emulator", REBUILT, *names)

    assert [domain["result"] for domain in report["domains"]] == ["upgraded"] * 2, report
    for shape in shapes:
        travellers.assert_well(shape)

    reboot("--emulator", EMULATOR, *names)

    for shape in shapes:
        travellers.assert_well(shape)
    nothing_left(*names)
    assert {name: devices(name) for name in names} == before


def test_saved_and_restored_by_libvirt(travellers: Guests) -> None:
    """virsh save and restore, managedsave and start: of a domain that came by mode reboot, without a trace of that."""
    path = f"{IMAGES}/placed.save"
    virsh("save", PLACED.name, path)
    assert LEFTOVER not in virsh("save-image-dumpxml", path)
    virsh("restore", path)
    travellers.assert_well(PLACED)
    virsh("managedsave", STORED.name)
    virsh("start", STORED.name)
    travellers.assert_well(STORED)


def test_snapshot_and_block_copy(travellers: Guests) -> None:
    virsh("snapshot-create-as", STORED.name, "s1", "--disk-only", "--atomic")
    assert LEFTOVER not in virsh("snapshot-dumpxml", STORED.name, "s1")
    virsh("snapshot-delete", STORED.name, "s1", "--metadata")
    copy = f"{IMAGES}/placed-copy.qcow2"
    virsh("blockcopy", PLACED.name, "vda", copy, "--wait", "--pivot", "--transient-job", timeout=60)
    assert copy in virsh("domblklist", PLACED.name)
    travellers.assert_well(PLACED)
    travellers.assert_well(STORED)


def test_what_is_left_over_is_kept_from_harm(travellers: Guests) -> None:
    """libvirt's daemon can't be stopped while it is at work: a save that comes first is cleaned by the hook."""
    run("qemu-img", "create", "-q", "-f", "raw", f"{IMAGES}/slow.raw", "64M")
    virsh(
        "blockcopy", STORED.name, "sda", f"{IMAGES}/slow.raw", "--reuse-external", "--bandwidth", "1", "--transient-job"
    )
    client.install_qemu("OLD")
    report = client.upgrade("--mode", "reboot", PLACED.name)
    (finding,) = [f for f in report["domains"][0]["findings"] if f["code"] == "leftover"]
    assert "busy with stored" in finding["message"]
    assert LEFTOVER in virsh("dumpxml", PLACED.name)
    travellers.assert_well(PLACED)

    path = f"{IMAGES}/placed.save"
    virsh("save", PLACED.name, path)
    virsh("restore", path)

    assert LEFTOVER not in virsh("dumpxml", PLACED.name)
    travellers.assert_well(PLACED)
    virsh("blockjob", STORED.name, "sda", "--abort")
    assert client.virtcpr("recover", "--all").code == 0
    nothing_left(PLACED.name)
    client.install_qemu("NEW")


def test_without_room_nothing_is_touched(travellers: Guests) -> None:
    process = client.pid(STORED.name)
    client.install_qemu("OLD")
    shell("mkdir -p /var/lib/virtcpr/saved; mount -t tmpfs -o size=16M tmpfs /var/lib/virtcpr/saved")
    try:
        report = client.upgrade("--mode", "reboot", STORED.name)
    finally:
        shell("umount /var/lib/virtcpr/saved")
    assert report["exit_code"] == 4
    (finding,) = [f for f in report["domains"][0]["findings"] if f["code"] == "room"]
    assert "may need 768 MiB, but /var/lib/virtcpr/saved has only 16 MiB left" in finding["message"]
    assert client.pid(STORED.name) == process
    refused = client.virtcpr("upgrade", "--yes", "--suspend-guest", STORED.name)
    assert refused.code == 2
    travellers.assert_well(STORED)


def test_the_plan_says_where_ram_stays(travellers: Guests) -> None:
    done = client.virtcpr("plan", "--mode", "reboot", "--emulator", REBUILT, "-o", "json", PLACED.name, STORED.name)
    placed, stored = json.loads(done.out)["domains"]
    assert placed["mode"] == stored["mode"] == "reboot"
    assert "which stays there" in placed["carried"][0]
    assert stored["carried"] == []
    assert placed["rehearsal"]["verdict"] in ("go", "unsure")


def test_what_mode_transfer_cannot_move_falls_back(travellers: Guests) -> None:
    """One command: the guest that is ready for mode transfer keeps its id, the other one is started anew."""
    names = (PLACED.name, NEVER.name)
    travellers.start(NEVER)
    client.install_qemu(
        "OLD" if client.qemu_version(NEVER.name) != client.upstream(client.versions()["OLD"]) else "NEW"
    )
    ids = [virsh("domid", name).strip() for name in names]
    options = ("--fallback", "reboot", "-o", "json")
    alone = json.loads(client.virtcpr("plan", "--no-rehearse", "-o", "json", *names).out)["domains"]
    planned = json.loads(client.virtcpr("plan", *options, *names).out)["domains"]

    report = client.upgrade("--fallback", "reboot", *names)

    assert [one["action"] for one in alone] == ["move", "blocked"]
    assert [one["mode"] for one in planned] == ["transfer", "reboot"]
    assert [(one["result"], one["mode"]) for one in report["domains"]] == [
        ("upgraded", "transfer"),
        ("upgraded", "reboot"),
    ]
    for shape in (PLACED, NEVER):
        travellers.assert_well(shape)
    assert virsh("domid", PLACED.name).strip() == ids[0]
    assert virsh("domid", NEVER.name).strip() != ids[1]
    nothing_left(NEVER.name)
