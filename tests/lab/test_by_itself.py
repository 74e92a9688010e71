"""The shows of a host left alone: packages are upgraded, and what virtcpr.toml says happens, nothing else typed.

All from the Debian package.  The waits are as shipped where they are the subject; elsewhere they are shorter.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.lab import client, packaging
from tests.lab.client import run, shell, virsh
from tests.lab.conftest import Guests
from tests.lab.guests import SMALL, Shape
from tests.lab.machine import Lab
from tests.lab.test_failure import leftovers
from tests.lab.test_machined import make_a_machine_of

FULL = os.environ.get("VIRTCPR_CHAOS") == "full"
WITHIN_SECONDS = 180  # from the end of the package manager's run to the last guest's move
BUSY_SECONDS = 60 if FULL else 8
THREE = tuple(
    replace(SMALL, name=name, number=number, memory_mib=160, ram_mib=16, interval_us=10_000)
    for number, name in enumerate(("one", "two", "three"), 70)
)
STUCK = replace(THREE[0], name="stuck", number=73, prepared=False)
CONFIGURATION = "/etc/virtcpr/conf.d/test.toml"
TIMER_DROP_IN = "/run/systemd/system/virtcpr-auto.timer.d/test.conf"
SERVICE_DROP_IN = "/run/systemd/system/virtcpr-auto.service.d/test.conf"
QUICK = (
    "/usr/bin/python3 -c 'import sys; from virtcpr.host import packages; packages.QUIET_SECONDS = 2; "
    'sys.argv[1:] = ["auto", "--pending"]; from virtcpr.__main__ import main; sys.exit(main())\''
)
# Holds both locks as dpkg does, and says when it has them.
HOLD = """
import fcntl, sys, time
held = [open(f"/var/lib/dpkg/{name}", "w") for name in ("lock-frontend", "lock")]
for lock in held:
    fcntl.lockf(lock, fcntl.LOCK_EX)
time.sleep(float(sys.argv[1]))
"""


@pytest.fixture(scope="module", autouse=True)
def guests(lab: Lab) -> Iterator[Guests]:
    """The package, and three guests on QEMU OLD; each test has them where the one before left them."""
    packaging.install()
    made = Guests()
    made.start(*THREE)
    yield made
    made.end()


def configure(text: str) -> None:
    shell(f"cat >{CONFIGURATION}", stdin=text)


def quick() -> None:
    """Short waits from now on."""
    shell(
        f"mkdir -p {TIMER_DROP_IN.rpartition('/')[0]} {SERVICE_DROP_IN.rpartition('/')[0]}; "
        f"printf '[Timer]\\nOnActiveSec=\\nOnActiveSec=1s\\n' >{TIMER_DROP_IN}; cat >{SERVICE_DROP_IN}; "
        "systemctl daemon-reload",
        stdin=f"[Service]\nExecStart=\nExecStart={QUICK}\n",
    )


def as_shipped() -> None:
    shell(f"rm -f {TIMER_DROP_IN} {SERVICE_DROP_IN}; systemctl daemon-reload")


class Since:
    """What the journal holds from here on."""

    def __init__(self) -> None:
        last = run("journalctl", "-n1", "-o", "json").out
        self.cursor = json.loads(last)["__CURSOR"]

    def told(self) -> dict[str, str]:
        """Domain → what it was told of it."""
        lines = run("journalctl", "--sync", "-o", "json", "--after-cursor", self.cursor).out.splitlines()
        lines = run("journalctl", "-o", "json", "--after-cursor", self.cursor, "SYSLOG_IDENTIFIER=virtcpr").out.split("\n")
        records = [json.loads(line) for line in lines if line]
        return {one["VIRTCPR_DOMAIN"]: one["VIRTCPR_RESULT"] for one in records if "VIRTCPR_DOMAIN" in one}


def triggered() -> None:
    assert run("cat", "/run/virtcpr/pending").out
    assert run("systemctl", "is-active", "virtcpr-auto.timer").out == "active\n"


def settled(seconds: float) -> None:
    """Wait until all that was noted is done."""
    script = (
        "until ! ls /run/virtcpr/pending* >/dev/null 2>&1 && "
        "[ \"$(systemctl is-active virtcpr-auto.timer virtcpr-auto.service | sort -u)\" = inactive ]; do sleep 0.2; done"
    )
    run("timeout", str(seconds), "sh", "-c", script, timeout=seconds + 10)


def emulators() -> dict[str, str]:
    """Guest → the file that it runs in, by its device and inode."""
    return {shape.name: run("stat", "-Lc", "%d:%i", f"/proc/{client.pid(shape.name)}/exe").out for shape in THREE}


def installed() -> str:
    return run("stat", "-Lc", "%d:%i", "/usr/bin/qemu-system-x86_64").out


def moves() -> dict[str, int]:
    """Guest → how many moves its history has."""
    entries = json.loads(client.virtcpr("history", "-o", "json", check=True).out)["domains"]
    return {name: sum(one["name"] == name for one in entries) for name in {one["name"] for one in entries}}


def outdated_for_needrestart() -> str:
    """What `needrestart -r l` says of guests."""
    return shell("needrestart -r l 2>&1 | sed -n '/guests/,/^$/p'")


def needrestart() -> None:
    """Have it, without its hook into apt."""
    shell(f"{packaging.APT} install --no-download needrestart; rm /etc/apt/apt.conf.d/99needrestart")


def test_apt_upgrades_qemu_and_the_guests_move(guests: Guests) -> None:
    configure('auto = "apply"\n')
    needrestart()
    for shape in THREE:
        make_a_machine_of(shape.name)
    since, began = Since(), 0.0
    guests.witness.mark()

    client.install_qemu("NEW")

    began = time.monotonic()
    triggered()
    before = outdated_for_needrestart()
    settled(WITHIN_SECONDS)
    assert time.monotonic() - began < WITHIN_SECONDS
    assert since.told() == {shape.name: "upgraded" for shape in THREE}
    new = client.upstream(client.versions()["NEW"])
    for shape in THREE:
        assert client.qemu_version(shape.name) == new
        guests.assert_well(shape)
        assert shape.name in before
    assert "VM guests are running outdated hypervisor" in before
    assert "No VM guests are running outdated hypervisor" in outdated_for_needrestart()
    assert leftovers() == ""
