"""Before an upgrade: whether guests could go to packages that aren't installed, and back.  Nothing is touched."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR
from tests.lab.support.client import LabCommandError, shell
from tests.lab.support.guests import DATABASE, LEGACY, OFFICE, SMALL
from tests.lab.support.leftovers import leftovers, qemu_processes
from tests.lab.support.reboots import define
from tests.lab.support.rehearsals import REFUSED, untouched

ARCHIVES = "/var/cache/apt/archives"
NO_VARIABLES = "the size of its image libvirt-pflash1-storage isn't known"
CONFIGURED = "/etc/apt/apt.conf.d/60virtcpr-certify"


def certified(*arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit code, and what is said of each domain, by name."""
    done = client.virtcpr("certify", "--all", "-o", "json", *arguments)
    document = json.loads(done.out)
    assert "error" not in document, document
    return done.code, {domain["name"]: domain for domain in document["domains"]}


def packages(release: str) -> list[str]:
    """The options that name every package of QEMU of this release, with the firmware that it needs."""
    version = client.versions()[release].replace(":", "%3a")
    files = shell(f"ls {ARCHIVES}/*_{version}_*.deb {ARCHIVES}/seabios_*.deb").split()
    assert len(files) > 4
    return [word for file in files for word in ("--package", file)]


def installed() -> str:
    return shell("dpkg-query -W | grep -E 'qemu|seabios'; ls -A /var/cache/virtcpr || true; ls /tmp")


def test_what_apt_would_install(guests: Guests) -> None:
    """From apt's cache, as here is no archive."""
    client.install_qemu("OLD")
    guests.start(SMALL, DATABASE)
    before, pids = installed(), [client.pid(shape.name) for shape in (SMALL, DATABASE)]
    guests.witness.mark()

    code, domains = certified("--from-archive")

    assert code == 0, domains
    for domain in domains.values():
        assert (domain["result"], domain["mode"], domain["running"]) == ("go", "transfer", domain["running"])
        assert domain["candidate"].startswith(client.upstream(client.versions()["NEW"]))
        assert domain["back"] == {"verdict": "go", "words": ""}
    assert installed() == before
    assert [client.pid(shape.name) for shape in (SMALL, DATABASE)] == pids
    assert all(untouched(shape.name) for shape in (SMALL, DATABASE))
    for shape in (SMALL, DATABASE):
        guests.assert_well(shape)
    assert (leftovers(), qemu_processes()) == ("", 2)


def test_packages_that_one_guest_can_go_to_and_another_cannot(guests: Guests) -> None:
    """To NEXT: from OLD, with no way back; not from NEW.  The rehearsal says the same once it is installed."""
    client.install_qemu("OLD")
    guests.start(SMALL)
    client.install_qemu("NEW")
    guests.start(DATABASE)
    before = installed()

    code, domains = certified(*packages("NEXT"))

    assert code == 4, domains
    small, database = domains[SMALL.name], domains[DATABASE.name]
    assert (small["result"], small["there"]["verdict"], small["back"]["verdict"]) == ("go", "go", "no-go"), small
    assert "vmstate" in small["back"]["words"]
    assert (database["result"], database["back"]) == ("no-go", None), database
    assert REFUSED in database["there"]["words"]
    assert small["shape"] != database["shape"]
    assert installed() == before
    for shape in (SMALL, DATABASE):
        guests.assert_well(shape)

    client.install_qemu("NEXT")
    planned = json.loads(client.virtcpr("plan", "--all", "-o", "json", check=True).out)["domains"]
    verdicts = {domain["name"]: domain["rehearsal"] for domain in planned}
    assert verdicts == {SMALL.name: small["there"], DATABASE.name: database["there"]}


def test_apt_asks_before_it_installs(guests: Guests) -> None:
    """With --refuse it installs nothing; without, it only says what would become of the guest."""
    client.install_qemu("NEW")
    guests.start(DATABASE)
    source = "/usr/src/virtcpr/packages/apt"
    shell(f"mkdir -p /usr/libexec/virtcpr; cp {source}/before-install /usr/libexec/virtcpr/")
    shell(f"sed 's/before-install\";/before-install --refuse\";/' {source}/60virtcpr-certify > {CONFIGURED}")
    before = installed()

    with pytest.raises(LabCommandError, match=rf"(?s){DATABASE.name} +transfer .*no-go.*nothing is installed"):
        client.install_qemu("NEXT")

    assert installed() == before
    shell(f"cp {source}/60virtcpr-certify {CONFIGURED}")
    client.install_qemu("NEXT")
    assert installed() != before
    assert client.qemu_version(DATABASE.name) == client.upstream(client.versions()["NEW"])
    shell(f"rm {CONFIGURED}")


def test_modes_that_it_is_asked_for(guests: Guests) -> None:
    """A guest that was never prepared, there by mode live, and then back by transfer."""
    unprepared = replace(SMALL, prepared=False)
    client.install_qemu("OLD")
    guests.start(unprepared, watch=False)
    for mode, result in (("auto", "go"), ("live", "go"), ("reboot", "go"), ("transfer", "blocked")):
        _, domains = certified("--from-archive", "--mode", mode)
        domain = domains[SMALL.name]
        assert domain["result"] == result, domain
        assert domain["mode"] == {"auto": "live", "transfer": None}.get(mode, mode)
        assert domain["back"] == (None if result == "blocked" else {"verdict": "go", "words": ""}), domain


def test_candidates_that_are_none(guests: Guests) -> None:
    guests.start(SMALL, watch=False)
    for arguments, words in (
        (("--package", "/etc/hostname"), "/etc/hostname"),
        (packages("NEXT")[-2:], "none of the packages has /usr/bin/qemu-system-x86_64"),
        (("--emulator", "/bin/true"), "the candidate can't be run: /bin/true isn't QEMU, or is broken"),
    ):
        done = client.virtcpr("certify", "--all", *arguments)
        assert (done.code, words in done.err) == (1, True), done
    client.install_qemu("NEW")
    client.run("apt-mark", "hold", "qemu-system-x86")
    done = client.virtcpr("certify", "--all", "--from-archive")
    assert (done.code, done.out) == (
        0,
        "apt has nothing newer than what is installed for /usr/bin/qemu-system-x86_64\n",
    )
    client.virsh("destroy", SMALL.name)
    done = client.virtcpr("certify", SMALL.name, "--emulator", EMULATOR, "-o", "json")
    (domain,) = json.loads(done.out)["domains"]
    assert (done.code, domain["result"], domain["defined"]) == (0, "go", True), "one that is named needn't run"
    assert leftovers() == ""


def test_one_that_does_not_run(guests: Guests) -> None:
    """Started by libvirt's own words in what is installed: the same verdict as of a guest that runs in it."""
    client.install_qemu("NEW")
    guests.start(SMALL, watch=False)
    off = replace(LEGACY, name="off")
    define(off)
    define(OFFICE)
    before = installed()

    code, domains = certified("--defined", *packages("NEXT"))

    assert code == 4, domains
    small, legacy, office = domains[SMALL.name], domains[off.name], domains[OFFICE.name]
    assert (small["defined"], legacy["defined"], office["defined"]) == (False, True, True)
    assert [one["result"] for one in (small, legacy)] == ["no-go", "no-go"], domains
    assert legacy["running"] == small["running"]
    assert REFUSED in legacy["there"]["words"]
    assert (office["result"], office["there"]["words"]) == ("unsure", NO_VARIABLES), office
    assert shell("virsh -q list --name --inactive").split() == [off.name, OFFICE.name]
    assert installed() == before
    assert qemu_processes() == 1

    _, domains = certified("--defined", "--mode", "reboot", *packages("OLD"))
    assert (domains[off.name]["mode"], domains[off.name]["result"]) == ("reboot", "go"), domains
    client.remove(off.name)
    client.remove(OFFICE.name)
