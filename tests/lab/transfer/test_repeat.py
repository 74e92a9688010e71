"""The same guest again and again: nothing grows, nothing wears out."""

from __future__ import annotations

import os

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR
from tests.lab.support.client import run, virsh
from tests.lab.support.guests import DATABASE
from tests.lab.support.leftovers import KEPT, assert_nothing_grew, footprint, leftovers

FULL = os.environ.get("VIRTCPR_CHAOS") == "full"
SWAPS = 20 if FULL else 8  # the rest in `make chaos`


@pytest.mark.timeout(900)
def test_swaps_up_and_down(guests: Guests) -> None:
    known = client.versions()
    guests.start(DATABASE)
    run("cp", EMULATOR, KEPT)
    client.install_qemu("NEW")
    turns = ((EMULATOR, client.upstream(known["NEW"])), (KEPT, client.upstream(known["OLD"])))
    xml = virsh("dumpxml", DATABASE.name)
    sizes = []
    for turn in range(SWAPS):
        emulator, version = turns[turn % 2]
        guests.witness.mark()
        report = client.upgrade(DATABASE.name, "--emulator", emulator)
        assert report["exit_code"] == 0, report
        assert report["domains"][0]["findings"] == []
        assert client.qemu_version(DATABASE.name) == version
        guests.assert_well(DATABASE)
        sizes.append(footprint(DATABASE.name))
    assert_nothing_grew(sizes)
    assert leftovers() == ""
    assert virsh("dumpxml", DATABASE.name).replace(KEPT, EMULATOR) == xml

    virsh("shutdown", "--mode", "acpi", DATABASE.name)
    wait = f"until virsh domstate {DATABASE.name} | grep -q 'shut off'; do sleep 0.2; done"
    run("timeout", "60", "sh", "-c", wait)
    assert "No errors were found" in run("qemu-img", "check", DATABASE.disk_path(0)).out
