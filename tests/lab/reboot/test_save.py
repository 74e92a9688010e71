"""`save` and `restore` around a reboot of the host: guests are written to disk, and go on by themselves after it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.chaos import FULL
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import SMALL, Shape
from tests.lab.support.machine import Lab
from tests.lab.support.reboots import define, nothing_left

GUESTS = tuple(
    replace(SMALL, name=f"guest{n}", number=30 + n, memory_mib=160, ram_mib=16, prepared=False, interval_us=20_000)
    for n in range(10 if FULL else 4)
)
HALF = len(GUESTS) // 2
IN_PLACE, SUSPENDED, FROM_FILE, AUTOSTARTED = GUESTS[:HALF], GUESTS[HALF], GUESTS[HALF + 1], GUESTS[0]
UNITS = "virtcpr-save.service virtcpr-restore.service"


def report(*arguments: str, code: int = 0) -> Any:
    done = client.virtcpr(*arguments, "-o", "json")
    assert done.code == code, done
    return json.loads(done.out)


@pytest.fixture(scope="module", autouse=True)
def units(lab: Lab) -> None:
    shell(
        "install -m 644 /usr/src/virtcpr/systemd/*.service /etc/systemd/system/; systemctl daemon-reload; "
        f"systemctl enable --now -q {UNITS}; "
        # Whether the guests come back must not depend on their networks being there first.
        "virsh -q net-autostart default; virtcpr -q hooks install"
    )


@pytest.fixture(scope="module")
def several(lab: Lab) -> Iterator[Guests]:
    """Several guests, the RAM of half of them in files on disk, one suspended, one started with the host."""
    guests = Guests()
    for shape in GUESTS:
        define(shape)
        guests.adopt(shape)
    client.virtcpr("prepare", "--yes", "--mode", "reboot", *(shape.name for shape in IN_PLACE), check=True)
    for shape in GUESTS:
        virsh("start", shape.name)
    virsh("autostart", AUTOSTARTED.name)
    guests.watch(*GUESTS)
    virsh("suspend", SUSPENDED.name)
    yield guests
    guests.end()


def boots(guests: Guests, shape: Shape) -> Any:
    return guests.witness.report(shape)["boot_marks_seen"]


def test_guests_over_a_reboot_of_the_host(several: Guests, lab: Lab) -> None:
    before = {shape.name: boots(several, shape) for shape in GUESTS}
    saved_by = run("cat", "/proc/sys/kernel/random/boot_id", "/etc/machine-id").out
    several.witness.close()

    lab.restart()

    run("systemctl", "start", "virtcpr-restore.service")  # it is under way: this waits for its end
    assert run("systemctl", "is-system-running", check=False).out.strip() == "running", client.run(
        "systemctl", "--failed"
    )
    assert saved_by  # the lab has no kernel of its own, and so no other boot id
    states = {shape.name: virsh("domstate", shape.name).strip() for shape in GUESTS}
    assert states.pop(SUSPENDED.name) == "paused"
    assert set(states.values()) == {"running"}, states
    virsh("resume", SUSPENDED.name)
    several.witness = client.Witness()
    for shape in GUESTS:
        several.witness.watch(shape)
    for shape in GUESTS:
        several.assert_well(shape, beats=50)
        assert boots(several, shape) == before[shape.name]
    nothing_left(*(shape.name for shape in GUESTS))
    for shape in GUESTS[HALF + 2 :]:  # the rest of the module is faster without them
        virsh("destroy", shape.name)
    log = run("journalctl", "-b", "--no-pager", "-u", "libvirtd", "-u", "virtcpr-restore").out
    assert f"virtcpr: {AUTOSTARTED.name} is saved: to bring it back, run:" in log  # autostart came too early


def test_saved_guests_can_not_be_started_by_mistake(several: Guests) -> None:
    one, other = GUESTS[1], FROM_FILE
    done = report("save", "--yes", one.name, other.name)
    assert [(d["result"], d["in_place"]) for d in done["domains"]] == [("saved", True), ("saved", False)]
    assert "saved" in client.virtcpr("list", one.name).out
    (checked,) = report("check", one.name, code=4)["domains"]
    assert (checked["state"], checked["findings"][0]["code"]) == ("saved", "waits-for-restore")
    assert "not-running" not in [finding["code"] for finding in checked["findings"]]
    for shape in (one, other):
        refused = run("virsh", "start", shape.name, check=False)
        assert refused.code != 0
        assert f"virtcpr: {shape.name} is saved: to bring it back, run: virtcpr restore '{shape.name}'" in refused.err
        assert "virtcpr restore --discard" in refused.err
    assert report("recover", "--all")["domains"][0]["settled"] == "waiting"

    again = report("save", "--yes", GUESTS[2].name)  # while others wait
    assert again["domains"][0]["result"] == "saved"
    done = report("restore", "--all")

    assert [d["result"] for d in done["domains"]] == ["restored"] * 3
    assert report("restore", "--all")["domains"] == []
    for shape in (one, other, GUESTS[2]):
        several.assert_well(shape, beats=50)
    nothing_left(one.name, other.name)


def test_what_is_saved_can_be_given_up(several: Guests) -> None:
    one = SUSPENDED
    before = boots(several, one)
    report("save", "--yes", one.name)
    assert client.virtcpr("restore", "--discard", one.name).code == 2  # nobody is there to be asked

    done = report("restore", "--discard", "--yes", one.name)

    assert [d["result"] for d in done["domains"]] == ["discarded"]
    virsh("start", one.name)
    nothing_left(one.name)
    several.witness.watch(one)
    assert boots(several, one) != before
    assert client.virtcpr("restore", one.name).code == 2


def test_stopping_the_unit_saves_nothing_while_the_host_stays_up(several: Guests) -> None:
    process = client.pid(GUESTS[0].name)
    run("systemctl", "stop", "virtcpr-save.service")
    assert client.pid(GUESTS[0].name) == process
    assert "the host stays up" in run("journalctl", "--no-pager", "-n", "5", "-u", "virtcpr-save").out


def test_a_new_qemu_that_refuses_the_state(several: Guests) -> None:
    """It comes between save and restore: the guest waits.  Is it there before, nothing is saved."""
    one = FROM_FILE
    client.install_qemu("NEW")
    virsh("destroy", one.name)
    virsh("start", one.name)
    several.watch(one)
    report("save", "--yes", one.name)
    client.install_qemu("NEXT")

    (domain,) = report("restore", one.name, code=1)["domains"]

    assert domain["result"] == "waiting"
    (finding,) = domain["findings"]
    assert "can't load its state" in finding["message"]
    assert "its state waits in /var/lib/virtcpr/saved/" in finding["message"]
    assert finding["remedy"].startswith("install a QEMU that can, such as the one that wrote it (10.0.13")
    assert virsh("domstate", one.name).strip() == "shut off"
    client.install_qemu("NEW")
    assert report("restore", one.name)["domains"][0]["result"] == "restored"
    several.assert_well(one, beats=50)
    nothing_left(one.name)

    client.install_qemu("NEXT")
    process = client.pid(one.name)
    (domain,) = report("save", "--yes", one.name, code=4)["domains"]

    assert [f["code"] for f in domain["findings"] if f["severity"] == "blocker"] == ["rehearsal"]
    assert client.pid(one.name) == process
    several.assert_well(one, beats=50)
