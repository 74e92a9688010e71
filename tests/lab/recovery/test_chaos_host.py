"""More that may happen to a host in the middle of a swap: no systemd, nobody who listens, no power."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.lab.support import client
from tests.lab.support.builds import REBUILT, STOP_DAEMON, UNITS
from tests.lab.support.chaos import BOTH_MS, FULL, LIVELY, Case, Host, strike
from tests.lab.support.chaos_matrix import SEEN
from tests.lab.support.chaos_moments import NEW, OLD
from tests.lab.support.client import Witness, run, shell, virsh
from tests.lab.support.guests import SMALL
from tests.lab.support.leftovers import leftovers
from tests.lab.support.machine import Lab
from virtcpr.domain.sockets import beside

MOMENTS = {"before migrate": {OLD}, "before received": {OLD, NEW}, "before end-old": {NEW}, "before start": {NEW}}


@pytest.fixture
def plain(host: Host) -> Iterator[Host]:
    """libvirt's daemon runs as nobody's service, and the hook isn't there: only the guardian can settle anything."""
    shell(f"virtcpr hooks remove; {STOP_DAEMON}; libvirtd -d; virsh net-list >/dev/null")
    yield host
    shell(f"while kill $(pidof libvirtd); do sleep 0.1; done; virtcpr hooks install; systemctl start {UNITS}")


@pytest.mark.thorough
@pytest.mark.parametrize("moment", MOMENTS if FULL else ("before received", "before end-old"))
def test_the_guardian_without_systemd(plain: Host, moment: str) -> None:
    """A child of virtcpr, which outlives it, and whoever read what they say: a terminal that is closed, a pipe."""
    plain.ready()
    case = Case(moment, ("virtcpr",), "guardian")

    seen = plain.strike(case, systemd=False, deaf=True)

    outcome = plain.outcome(seen)
    SEEN.add(moment, "virtcpr →guardian (no systemd)", outcome)
    SEEN.answers.append(seen["answer_s"])
    assert outcome in MOMENTS[moment], seen
    assert run("systemctl", "is-active", "libvirtd.service", check=False).out.strip() == "inactive"


def test_two_owners_would_be_seen(host: Host) -> None:
    """What every other test of chaos relies on, shown on a guest that has no disk: QEMU's own lock on images would
    keep a second owner from running."""
    diskless = replace(LIVELY, name="diskless", number=14, disks=())
    client.start(diskless)
    host.witness.watch(diskless, timeout=120)
    case = Case("before end-old", ("virtcpr", "both"), "recover")
    try:
        seen = strike(diskless.name, case)
    finally:
        client.remove(diskless.name)

    assert seen["both_ms"] > BOTH_MS, seen


@pytest.mark.thorough
@pytest.mark.parametrize("moment", ["before commit", "before record", "journal adopted"] if FULL else ["before record"])
def test_power_fails(lab: Lab, host: Host, moment: str) -> None:
    """Both QEMUs and /run are gone: nothing of the swap may be in the way of the next boot, guest or swap."""
    host.ready()
    directories = shell(f"echo /var/lib/libvirt/qemu/domain-*-{SMALL.name}").split()
    host.strike(Case(moment, ("power",), "leave"))
    host.witness.close()

    lab.reboot()

    assert run("pgrep", "qemu-system", check=False).out == ""
    assert run("virtcpr", "list").code == 0
    assert run("virtcpr", "recover", "--all").code == 0
    virsh("start", SMALL.name)
    host.witness = Witness()
    host.watch()
    host.ready()
    assert client.upgrade(SMALL.name, "--emulator", REBUILT)["exit_code"] == 0
    assert host.assert_well() == 1
    # libvirt leaves the directory of a guest whose host lost its power, with the monitor's socket in it, each time.
    assert {*leftovers().split()} <= {beside(f"{directory}/monitor.sock") for directory in directories}
    SEEN.add(moment, "power", "boots")
