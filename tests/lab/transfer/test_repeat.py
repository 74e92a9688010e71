"""The same guest again and again: nothing grows, nothing wears out."""

from __future__ import annotations

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import to_and_fro
from tests.lab.support.builds import EMULATOR
from tests.lab.support.client import run, virsh
from tests.lab.support.guests import DATABASE
from tests.lab.support.leftovers import KEPT

SWAPS = 20


@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_swaps_up_and_down(guests: Guests) -> None:
    guests.start(DATABASE)
    to_and_fro.keep_old()
    xml = virsh("dumpxml", DATABASE.name)

    to_and_fro.move(guests, DATABASE, SWAPS)

    assert virsh("dumpxml", DATABASE.name).replace(KEPT, EMULATOR) == xml

    virsh("shutdown", "--mode", "acpi", DATABASE.name)
    wait = f"until virsh domstate {DATABASE.name} | grep -q 'shut off'; do sleep 0.2; done"
    run("timeout", "60", "sh", "-c", wait)
    assert "No errors were found" in run("qemu-img", "check", DATABASE.disk_path(0)).out
