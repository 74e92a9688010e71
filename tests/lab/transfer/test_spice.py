"""A SPICE display with a password and TLS: whoever had the password gets in at both ports, and nobody else."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab.support import client
from tests.lab.support.certificates import give_displays
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.machine import Lab
from tests.lab.support.provoke import NAME, Guest, new_process, upgrade
from tests.paths import INSIDE

CLIENT = (INSIDE / "spice_client.py").read_text()
PLAIN, TLS = "5950", "tls:5951"
OWN, LATER, COMMON, WRONG = "sesame", "opensesame", "wall", "guess"
DISPLAY = (
    f"<graphics type='spice' port='5950' tlsPort='5951' autoport='no' listen='127.0.0.1' passwd='{OWN}' "
    "passwdValidTo='2099-01-01T00:00:00'/><video><model type='virtio'/></video>"
)


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Guest]:
    give_displays("spice", COMMON)
    made = Guest(DISPLAY)
    yield made
    made.end()


def opened(where: str, *words: str) -> dict[str, bool]:
    answered: dict[str, bool] = json.loads(run("python3", "-", where, *words, stdin=CLIENT).out)
    return answered


def display() -> str:
    xml = virsh("dumpxml", "--security-info", NAME)
    return xml[xml.index("<graphics") : xml.index("</graphics>")] + "</graphics>"


def update(old: str, new: str) -> None:
    run("virsh", "-q", "update-device", NAME, "/dev/stdin", "--live", stdin=display().replace(old, new))


def moved(guest: Guest) -> None:
    report = upgrade()
    (domain,) = report["domains"]
    assert (domain["result"], domain["findings"]) == ("upgraded", []), report
    guest.assert_well(new_process(report))


def test_a_password_goes_along_with_its_term_and_tls(guest: Guest) -> None:
    """There and back; it is changed in between, and in the end its term is over."""
    guest.is_watched()
    assert opened(PLAIN, OWN, WRONG) == opened(TLS, OWN, WRONG) == {OWN: True, WRONG: False}
    moved(guest)
    assert opened(PLAIN, OWN, WRONG) == opened(TLS, OWN, WRONG) == {OWN: True, WRONG: False}
    update(OWN, LATER)
    moved(guest)
    assert opened(PLAIN, LATER, OWN) == opened(TLS, LATER, OWN) == {LATER: True, OWN: False}
    assert f"passwd='{LATER}' passwdValidTo='2099-01-01T00:00:00'" in display()
    update("2099", "2001")
    moved(guest)
    assert opened(TLS, LATER) == {LATER: False}


def test_a_move_that_fails_leaves_both_ports_to_old(guest: Guest) -> None:
    process = guest.is_watched()
    update("2001", "2099")
    report = upgrade(at={"compare": "kill -9 $NEW"})
    assert report["domains"][0]["result"] == "rolled-back", report
    assert opened(PLAIN, LATER) == opened(TLS, LATER) == {LATER: True}
    guest.assert_well(process)


@pytest.mark.thorough
def test_a_password_of_the_hosts(guest: Guest) -> None:
    """It is in qemu.conf; once it is gone from there, nobody knows it."""
    guest.is_watched()
    virsh("destroy", NAME)
    xml = virsh("dumpxml", "--inactive", "--security-info", NAME)
    xml = xml.replace(f" passwd='{OWN}' passwdValidTo='2099-01-01T00:00:00'", "")
    assert OWN not in xml
    shell("virsh -q define /dev/stdin", stdin=xml)
    guest.is_watched()
    assert opened(PLAIN, COMMON, OWN) == {COMMON: True, OWN: False}
    moved(guest)
    assert opened(PLAIN, COMMON, OWN) == opened(TLS, COMMON, OWN) == {COMMON: True, OWN: False}
    shell("sed -i /spice_password/d /etc/libvirt/qemu.conf")
    report = client.upgrade(NAME, "--force")
    (finding,) = report["domains"][0]["findings"]
    assert (report["exit_code"], finding["code"]) == (4, "spice-password")
