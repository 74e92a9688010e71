"""apt upgrades QEMU on a host with KVM, and the guest moves by itself: from the Debian package, nothing else typed."""

from __future__ import annotations

import json
from dataclasses import replace

from tests.host.support import confinement
from tests.host.support.guests import KVM
from tests.host.support.machine import Host
from tests.lab.conftest import Guests
from tests.lab.support import client, packaging
from tests.lab.support.by_itself import INSTALL_NEEDRESTART, WITHIN_SECONDS, configure, needrestart, settled
from tests.lab.support.client import run, shell

GUEST = replace(KVM, name="left-alone", number=90)


def test_apt_upgrades_qemu_and_the_guest_moves(guests: Guests, host: Host) -> None:
    packaging.install()
    shell(INSTALL_NEEDRESTART)
    configure('auto = "apply"\n')
    guests.start(GUEST)
    before, denials = confinement.picture(GUEST.name), confinement.denials()
    assert needrestart().startswith("No VM guests are running outdated hypervisor")
    guests.witness.mark()

    client.install_qemu("NEW")

    assert f"'{GUEST.name}' with pid" in needrestart()
    settled(WITHIN_SECONDS * client.slowness())
    (moved,) = json.loads(client.virtcpr("history", "-o", "json", check=True).out)["entries"]
    assert (moved["name"], moved["result"]) == (GUEST.name, "upgraded")
    guests.assert_well(GUEST)
    assert client.qemu_version(GUEST.name) == client.upstream(client.versions()["NEW"])
    assert needrestart().startswith("No VM guests are running outdated hypervisor")
    assert confinement.picture(GUEST.name) == before
    assert confinement.denials() == denials
    assert run("systemctl", "is-active", "virtcpr-auto.timer", check=False).out == "inactive\n"
