"""An emulator that libvirt's daemon may not run is refused: the domain could never be started in it again."""

from __future__ import annotations

import json
from dataclasses import replace

from tests.host.support.guests import KVM
from tests.host.support.machine import Host
from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.client import run, shell

GUEST = replace(KVM, name="chooser", number=50)
FORBIDDEN = "/opt/other/qemu-system-x86_64"
UNNAMED = "/usr/bin/qemu-other"  # libvirtd may run all that is there
LOCAL = "/etc/apparmor.d/local/usr.sbin.libvirtd"


def findings(*arguments: str) -> dict[str, str]:
    """The findings of ``check``: code → remedy."""
    (domain,) = json.loads(client.virtcpr("check", "-o", "json", *arguments, GUEST.name).out)["domains"]
    return {finding["code"]: finding["remedy"] for finding in domain["findings"]}


def test_an_emulator_that_the_guests_profile_does_not_let_it_run(guests: Guests, host: Host) -> None:
    """Mode reboot would end the guest, and libvirt couldn't start it: `cannot execute binary`."""
    guests.start(GUEST)
    process = client.pid(GUEST.name)
    shell(f"cp /usr/bin/qemu-system-x86_64 {UNNAMED}; echo >> {UNNAMED}")

    report = client.upgrade("--mode", "reboot", "--force", "--emulator", UNNAMED, GUEST.name)

    assert (report["exit_code"], report["domains"][0]["result"]) == (4, "blocked"), report
    assert client.pid(GUEST.name) == process
    line = findings("--emulator", UNNAMED)["emulator-confined"].split("'")[1]
    shell("cat >> /etc/apparmor.d/local/abstractions/libvirt-qemu", stdin=f"{line}\n")

    report = client.upgrade("--mode", "reboot", "--force", "--emulator", UNNAMED, GUEST.name)

    assert report["domains"][0]["result"] == "upgraded", report
    guests.assert_well(GUEST, beats=50)


def test_an_emulator_that_libvirt_may_not_run(guests: Guests, host: Host) -> None:
    shell(f"mkdir -p /opt/other; cp /usr/bin/qemu-system-x86_64 {FORBIDDEN}; echo >> {FORBIDDEN}")
    guests.start(GUEST)
    process = client.pid(GUEST.name)
    assert "emulator-forbidden" not in findings()

    report = client.upgrade("--emulator", FORBIDDEN, "--force", GUEST.name)

    assert (report["exit_code"], report["domains"][0]["result"]) == (4, "blocked"), report
    assert client.pid(GUEST.name) == process
    remedy = findings("--emulator", FORBIDDEN)["emulator-forbidden"]
    line, _, command = remedy.removeprefix("add the line '").partition("' to ")
    assert command == f"{LOCAL}, then load it: 'apparmor_parser -r /etc/apparmor.d/usr.sbin.libvirtd'"

    shell(
        f"mkdir -p $(dirname {LOCAL}); cat >> {LOCAL}; apparmor_parser -r /etc/apparmor.d/usr.sbin.libvirtd",
        stdin=f"{line}\n",
    )

    assert "emulator-forbidden" not in findings("--emulator", FORBIDDEN)
    assert run("virsh", "domcapabilities", "--emulatorbin", FORBIDDEN, check=False).code == 0
    guests.assert_well(GUEST)
