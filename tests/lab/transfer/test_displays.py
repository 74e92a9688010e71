"""A VNC display after a swap: whoever had the password gets in, nobody else does, and over TLS where it was so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILD, REBUILT
from tests.lab.support.certificates import give_displays
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import SMALL, domain_xml, image_commands
from tests.lab.support.machine import Lab
from tests.paths import INSIDE

VIEWER = (INSIDE / "viewer.py").read_text()
SEEN = replace(SMALL, name="seen", number=42, nics=2)
HIDDEN = replace(SMALL, name="hidden", number=43, nics=0)
OWN, LATER, COMMON, WRONG = "sesame", "opensesame"[:8], "wall", "guess"
SOCKET = "/srv/displays/hidden.sock"  # in its own directories libvirt takes one for a name that it made up


def view(where: str, *words: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(run("python3", "-", where, *words, stdin=VIEWER).out)
    return shown


def update(name: str, old: str, new: str) -> None:
    """`virsh update-device` of the display, with something else in its place."""
    xml = virsh("dumpxml", "--security-info", name)
    display = xml[xml.index("<graphics") : xml.index("</graphics>")] + "</graphics>"
    run("virsh", "-q", "update-device", name, "/dev/stdin", "--live", stdin=display.replace(old, new))


def moved(emulator: str) -> None:
    report = client.upgrade("--all", "--emulator", emulator)
    assert [(d["result"], d["findings"]) for d in report["domains"]] == [("upgraded", [])] * 2, report


@pytest.fixture(scope="module")
def displays(lab: Lab) -> Iterator[str]:
    """Two guests with displays; the port of the first one's."""
    run("python3", "-", stdin=REBUILD)
    shell("install -d -o libvirt-qemu /srv/displays; chmod 755 /srv")
    give_displays("vnc", COMMON)
    given = f"<graphics type='vnc' port='5942' passwd='{OWN}' passwdValidTo='2099-01-01T00:00:00'/></devices>"
    local = f"<graphics type='vnc'><listen type='socket' socket='{SOCKET}'/></graphics></devices>"
    for shape, display in ((SEEN, given), (HIDDEN, local)):
        for command in image_commands(shape):
            run(*command)
        xml = domain_xml(shape).replace("</devices>", display)
        shell(f"virsh -q define /dev/stdin; virsh -q start {shape.name}", stdin=xml)
    yield "5942"
    for shape in (SEEN, HIDDEN):
        client.remove(shape.name)


def test_passwords_and_tls_are_as_they_were(displays: str) -> None:
    """There and back: one password of the domain's own and with a term, one of qemu.conf's; one changed in between."""
    wanted = {displays: OWN, SOCKET: COMMON}
    before = {where: view(where, word, WRONG) for where, word in wanted.items()}
    for where, word in wanted.items():
        assert before[where]["opened"] == {word: True, WRONG: False}
        assert before[where]["certificate"]
    planned = client.virtcpr("plan", SEEN.name, "--emulator", REBUILT).out
    assert "set_password protocol=vnc password=***" in planned
    assert OWN not in planned

    moved(REBUILT)
    assert {where: view(where, word, WRONG) for where, word in wanted.items()} == before

    update(SEEN.name, OWN, LATER)
    moved(EMULATOR)
    assert view(displays, LATER, OWN)["opened"] == {LATER: True, OWN: False}
    assert f"passwd='{LATER}' passwdValidTo='2099-01-01T00:00:00'" in virsh("dumpxml", "--security-info", SEEN.name)


def test_a_password_whose_term_is_over_and_one_that_libvirt_does_not_know(displays: str) -> None:
    """That of qemu.conf was taken out of it; libvirt is given another one."""
    update(SEEN.name, "2099", "2001")
    shell("sed -i /vnc_password/d /etc/libvirt/qemu.conf")
    report = client.upgrade(HIDDEN.name, "--emulator", REBUILT)
    (finding,) = report["domains"][0]["findings"]
    assert (report["exit_code"], finding["code"]) == (4, "vnc-password")
    update(HIDDEN.name, "<graphics ", f"<graphics passwd='{LATER}' ")
    moved(REBUILT)
    assert view(displays, LATER)["opened"] == {LATER: False}
    assert view(SOCKET, LATER, COMMON)["opened"] == {LATER: True, COMMON: False}


def reaches(address: str) -> bool:
    return run("ping", "-c", "1", "-W", "1", address, check=False).code == 0


def test_links_actions_and_words_about_a_domain(displays: str, guests: Guests) -> None:
    """What was said through virsh holds: a link that is down, what a reboot means, title, description and metadata."""
    shell("ip address replace 192.168.123.1/24 dev virbr0")
    guests.watch(SEEN)
    second = shell(f"virsh domiflist {SEEN.name} | sed -n 4p").split()[-1]
    run("timeout", "30", "sh", "-c", f"until ping -c1 -W1 {SEEN.ip2}; do :; done")
    virsh("domif-setlink", SEEN.name, second, "down")
    virsh("desc", SEEN.name, "--live", "--title", "--new-desc", "an office")
    virsh("desc", SEEN.name, "--live", "--new-desc", "two\nlines")
    virsh("metadata", SEEN.name, "urn:x", "--live", "--key", "x", "--set", "<own a='1'/>")
    virsh("set-lifecycle-action", SEEN.name, "crash", "preserve", "--live")
    virsh("set-lifecycle-action", SEEN.name, "reboot", "destroy", "--live")
    before = virsh("dumpxml", SEEN.name)
    pty = "s#/dev/pts/[0-9]*##; s#<emulator>.*##"
    assert all(word in before for word in ("an office", "two\nlines", "own", "preserve", "<link state='down'/>"))
    for emulator in (EMULATOR, REBUILT):
        moved(emulator)
        guests.assert_well(SEEN)
        assert not reaches(SEEN.ip2)
        assert run("sed", pty, stdin=virsh("dumpxml", SEEN.name)).out == run("sed", pty, stdin=before).out
    virsh("domif-setlink", SEEN.name, second, "up")
    run("timeout", "10", "sh", "-c", f"until ping -c1 -W1 {SEEN.ip2}; do :; done")
    run("virsh", "reset", SEEN.name, check=False)  # QEMU may be gone before it answers
    run("timeout", "20", "sh", "-c", f"until virsh domstate {SEEN.name} | grep -q 'shut off'; do sleep 0.1; done")
