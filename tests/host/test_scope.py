"""systemd-machined, which keeps the cgroups of guests: it knows new QEMU, and what ends old QEMU doesn't end new."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.host.support import confinement
from tests.host.support.guests import KVM
from tests.host.support.machine import Host as Machine
from tests.lab.support import client
from tests.lab.support.chaos import Case, Host
from tests.lab.support.client import run

GUEST = replace(KVM, name="scoped", number=40)


@pytest.fixture(scope="module")
def scoped(host: Machine) -> Iterator[Host]:
    made = Host(GUEST)
    yield made
    made.close()


def test_machined_and_systemd_start_anew(scoped: Host) -> None:
    """After a move: whoever forgot that new QEMU is the leader would end it now, or its cgroups."""
    scoped.ready()
    report = client.upgrade("--force", GUEST.name)
    assert [d["result"] for d in report["domains"]] == ["upgraded"], report
    process, before = client.pid(GUEST.name), confinement.picture(GUEST.name)

    run("systemctl", "restart", "systemd-machined")
    run("systemctl", "daemon-reexec")
    run("systemctl", "restart", "libvirtd")

    scoped.assert_well()
    assert client.pid(GUEST.name) == confinement.leader(GUEST.name) == process
    assert confinement.picture(GUEST.name) == before


@pytest.mark.parametrize("moment", ["journal committing", "before machined", "before end-old"])
def test_old_qemu_is_killed_by_somebody_else(scoped: Host, moment: str) -> None:
    """Old QEMU is the leader of the machine until virtcpr says otherwise: its end is not the machine's."""
    scoped.ready()

    seen = scoped.strike(Case(moment, ("old",)))

    assert scoped.outcome(seen) == "new"
    assert confinement.leader(GUEST.name) == client.pid(GUEST.name)
    assert confinement.threads(client.pid(GUEST.name))["CPU 0/KVM"][0].endswith("/libvirt/vcpu0")
