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

from tests.lab.conftest import Guests
from tests.lab.support import client, packaging
from tests.lab.support.by_itself import INSTALL_NEEDRESTART, WITHIN_SECONDS, configure, needrestart, settled
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import SMALL
from tests.lab.support.leftovers import leftovers
from tests.lab.support.machine import Lab
from tests.lab.support.machined import make_a_machine_of

FULL = os.environ.get("VIRTCPR_CHAOS") == "full"
BUSY_SECONDS = 60 if FULL else 8
THREE = tuple(
    replace(SMALL, name=name, number=number, memory_mib=160, ram_mib=16)
    for number, name in enumerate(("one", "two", "three"), 70)
)
STUCK = replace(THREE[0], name="stuck", number=73, prepared=False)
NOTIFIER = "/etc/virtcpr/notify.d/test"
TIMER_DROP_IN = "/run/systemd/system/virtcpr-auto.timer.d/test.conf"
SERVICE_DROP_IN = "/run/systemd/system/virtcpr-auto.service.d/test.conf"
QUICK = (
    "/usr/bin/python3 -c 'import sys; from virtcpr.host.system import packages; packages.QUIET_SECONDS = 4; "
    'sys.argv[1:] = ["auto", "--pending"]; from virtcpr.__main__ import main; sys.exit(main())\''
)
# Holds both locks as dpkg does.
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


def waits(*, timer_s: int | None = None, quiet: str = "") -> None:
    """How long is waited from now on, where not as shipped."""
    drop_in(TIMER_DROP_IN, "" if timer_s is None else f"[Timer]\nOnActiveSec=\nOnActiveSec={timer_s}s\n")
    drop_in(SERVICE_DROP_IN, quiet and f"[Service]\nExecStart=\nExecStart={quiet}\n")
    run("systemctl", "daemon-reload")


def drop_in(path: str, text: str) -> None:
    run("sh", "-ec", 'mkdir -p "${0%/*}"; cat >"$0"', path, stdin=text)


class Since:
    """What the journal holds from here on."""

    def __init__(self) -> None:
        self.cursor = json.loads(run("journalctl", "-n1", "-o", "json").out)["__CURSOR"]

    def told(self) -> dict[str, str]:
        """Domain → what became of it, in the records that virtcpr wrote."""
        run("journalctl", "--sync")
        asked = ("journalctl", "-o", "json", "--after-cursor", self.cursor, "SYSLOG_IDENTIFIER=virtcpr")
        records = [json.loads(line) for line in run(*asked).out.splitlines()]
        return {one["VIRTCPR_DOMAIN"]: one["VIRTCPR_RESULT"] for one in records if "VIRTCPR_DOMAIN" in one}


def of_all(word: str, **others: str) -> dict[str, str]:
    return {shape.name: word for shape in THREE} | others


def triggered(since: Since) -> None:
    """What dpkg did was noted, and the timer started; it may be done with already."""
    timer = run("journalctl", "-o", "cat", "--after-cursor", since.cursor, "-u", "virtcpr-auto.timer").out
    assert timer.startswith("Started virtcpr-auto.timer")


def pids() -> list[int]:
    return [client.pid(shape.name) for shape in THREE]


def current() -> list[bool]:
    """Which of the three run in the very file that is installed."""
    same = "for pid; do [ /proc/$pid/exe -ef /usr/bin/qemu-system-x86_64 ] && echo yes || echo no; done"
    return [word == "yes" for word in run("sh", "-c", same, "sh", *map(str, pids())).out.split()]


def moves() -> list[int]:
    """How many moves each of the three has behind it."""
    entries = json.loads(client.virtcpr("history", "-o", "json", check=True).out)["entries"]
    names = [one["name"] for one in entries if one["result"] == "upgraded"]
    return [names.count(shape.name) for shape in THREE]


def test_apt_upgrades_qemu_and_the_guests_move(guests: Guests) -> None:
    """All three within three minutes, with the waits as shipped; and needrestart agrees."""
    configure('auto = "apply"\n')
    shell(INSTALL_NEEDRESTART)
    for shape in THREE:
        make_a_machine_of(shape.name)
    since = Since()
    guests.witness.mark()

    client.install_qemu("NEW")

    began = time.monotonic()
    triggered(since)
    outdated = needrestart()
    assert "VM guests are running outdated hypervisor" in outdated
    assert all(f"'{shape.name}' with pid" in outdated for shape in THREE)
    settled(WITHIN_SECONDS)
    assert time.monotonic() - began < WITHIN_SECONDS
    assert since.told() == of_all("upgraded")
    assert current() == [True] * 3
    for shape in THREE:
        guests.assert_well(shape)
    assert needrestart().startswith("No VM guests are running outdated hypervisor")
    assert leftovers() == ""


def test_notify_moves_none_and_tells(guests: Guests) -> None:
    waits(timer_s=1, quiet=QUICK)
    configure("")  # it is the default
    shell(
        f"install -m 755 /dev/stdin {NOTIFIER}", stdin='#!/bin/sh\n{ echo "$VIRTCPR_SUBJECT"; cat; } >/var/tmp/told\n'
    )
    processes, since = pids(), Since()

    packaging.dpkg("-i", packaging.rebuilt(1))
    triggered(since)
    settled()

    assert since.told() == of_all("told")
    subject, _, document = run("cat", "/var/tmp/told").out.partition("\n")
    assert subject == "3 outdated domains reported, none moved: run `virtcpr upgrade --all`"
    assert {one["name"]: one["action"] for one in json.loads(document)["domains"]} == of_all("told")
    assert pids() == processes
    shell(f"rm {NOTIFIER}")


def test_off_does_nothing(guests: Guests) -> None:
    configure('auto = "off"\n')
    processes, since = pids(), Since()
    packaging.dpkg("-i", packaging.rebuilt(2))
    triggered(since)
    settled()
    assert since.told() == {}
    assert pids() == processes
    assert current() == [False] * 3


def test_where_the_canary_fails_no_other_is_touched(guests: Guests) -> None:
    """New QEMU is killed under it as soon as it is there: it runs on in old."""
    configure('auto = "apply"\n')
    processes, since = pids(), Since()
    guests.witness.mark()
    kill = "until new=$(pgrep -f 'guest=(one|two|three),' | grep -vxF \"$0\") && kill -9 $new; do sleep 0.02; done"
    run("systemd-run", "-q", "--collect", "--unit=killer", "sh", "-c", kill, "\n".join(map(str, processes)))

    packaging.dpkg("-i", packaging.rebuilt(3))
    triggered(since)
    settled()

    assert sorted(since.told().values()) == ["left", "left", "rolled-back"]
    assert run("systemctl", "show", "-P", "ExecMainStatus", "virtcpr-auto.service").out == "5\n"
    assert pids() == processes
    for shape in THREE:
        guests.assert_well(shape, beats=50)
    assert run("systemctl", "is-active", "killer", check=False).out == "inactive\n"


@pytest.mark.thorough
def test_several_runs_of_dpkg_are_one_upgrade(guests: Guests) -> None:
    """QEMU and libvirt in one run, QEMU in a second, then dpkg is busy on: the guests are moved once, after it.

    A guest that can't be moved is told of, and keeps none of the others.
    """
    waits(timer_s=1, quiet="" if FULL else QUICK)
    configure('auto = "off"\n')
    client.install_qemu("NEW")  # another build of it has its dependencies
    settled()
    configure('auto = "apply"\n')
    guests.start(STUCK)
    build, another = packaging.rebuilt(4), packaging.rebuilt(5)
    stuck, before, since = client.pid(STUCK.name), moves(), Since()
    guests.witness.mark()

    libvirt = shell("ls /var/cache/apt/archives/libvirt-daemon_*.deb").strip()
    packaging.dpkg("-i", libvirt, build)
    triggered(since)
    # At once: a pause between two runs may be the end.
    shell(f"{packaging.DPKG} -i {another}; python3 - {BUSY_SECONDS}", stdin=HOLD, timeout=BUSY_SECONDS + 120)
    assert moves() == before
    assert since.told() == {}
    settled(WITHIN_SECONDS)

    assert since.told() == of_all("upgraded", stuck="blocked")
    assert moves() == [count + 1 for count in before]
    assert current() == [True] * 3
    assert client.pid(STUCK.name) == stuck
    assert run("systemctl", "show", "-P", "ExecMainStatus", "virtcpr-auto.service").out == "3\n"
    for shape in (*THREE, STUCK):
        guests.assert_well(shape, beats=50)


def test_where_qemu_is_removed_nothing_is_done(guests: Guests) -> None:
    waits(timer_s=1, quiet=QUICK)
    processes, since = pids(), Since()
    packaging.dpkg("--remove", "--force-depends", "qemu-system-x86")
    triggered(since)
    settled()
    assert set(since.told().values()) == {"told"}
    assert pids() == processes
    packaging.dpkg("-i", packaging.rebuilt(5))
    settled()


def test_a_reboot_between_trigger_and_timer_leaves_nothing_to_be_done(guests: Guests, lab: Lab) -> None:
    """No guest runs an outdated QEMU after it."""
    waits()
    since = Since()
    packaging.dpkg("-i", packaging.rebuilt(6))
    triggered(since)
    assert run("cat", "/run/virtcpr/pending").out.startswith("/usr/bin/qemu-system-")
    guests.witness.close()

    lab.reboot()

    assert run("systemctl", "is-system-running").out == "running\n"
    assert run("systemctl", "is-active", "virtcpr-auto.timer", check=False).out == "inactive\n"
    assert run("ls", "/run/virtcpr").out == ""
    virsh("start", THREE[0].name)
    (listed,) = json.loads(client.virtcpr("list", "-o", "json", THREE[0].name, check=True).out)["domains"]
    assert listed["outdated"] is False
