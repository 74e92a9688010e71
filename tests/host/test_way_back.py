"""`undo` under AppArmor: a guest may run a kept build only if its profile says so, which virtcpr's package sees to."""

from __future__ import annotations

import json
from dataclasses import replace

from tests.host.support import confinement
from tests.host.support.guests import KVM
from tests.host.support.machine import Host
from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.client import run, shell, virsh
from tests.paths import ROOT

GUEST = replace(KVM, name="back", number=51, memory_mib=192, ram_mib=16)
RULES = "/etc/apparmor.d/abstractions/libvirt-qemu.d/virtcpr"


def undo() -> tuple[str, list[str]]:
    (domain,) = json.loads(client.virtcpr("undo", "--yes", "-o", "json").out)["domains"]
    return domain["result"], [finding["code"] for finding in domain["findings"]]


def test_it_goes_back_if_its_profile_lets_it(guests: Guests, host: Host) -> None:
    """libvirt's daemon needn't be allowed anything: its record names what is installed."""
    known = client.versions()
    shell(f"rm -f {RULES}")
    guests.start(GUEST)
    client.install_qemu("NEW")
    assert client.upgrade(GUEST.name)["exit_code"] == 0
    process = client.pid(GUEST.name)

    assert undo() == ("blocked", ["emulator-confined"])

    assert client.pid(GUEST.name) == process
    rules = (ROOT / "apparmor/libvirt-qemu.d-virtcpr").read_text()
    shell(f"mkdir -p $(dirname {RULES}); cat > {RULES}", stdin=rules)
    assert undo() == ("blocked", ["emulator-confined"])  # it is in the files, but not loaded
    run("apparmor_parser", "-r", f"/etc/apparmor.d/libvirt/libvirt-{virsh('domuuid', GUEST.name).strip()}")
    before, denials = confinement.picture(GUEST.name), confinement.denials()
    assert undo() == ("upgraded", [])
    assert client.qemu_version(GUEST.name) == client.upstream(known["OLD"])
    assert run("readlink", f"/proc/{client.pid(GUEST.name)}/exe").out.startswith("/var/lib/virtcpr-builds/")
    assert confinement.picture(GUEST.name) == before
    assert confinement.denials() == denials
    guests.assert_well(GUEST)
