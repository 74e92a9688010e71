"""Mode transfer, parked: between old QEMU and new no QEMU has the guest, and whatever fails, it runs on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client, provoke, to_and_fro
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import DATABASE, SMALL
from tests.lab.support.leftovers import leftovers
from tests.lab.support.machine import Lab
from tests.lab.support.reboots import define

PARKED = ("--mode", "parked")
NAME = provoke.NAME
KEEPERS = "virtcpr-keeper-*"
AGAIN = "the guest runs on in the build that it ran in, started again (process "


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[provoke.Guest]:
    client.install_qemu("NEW")
    made = provoke.Guest()
    yield made
    made.end()


def emulator() -> str:
    """As libvirt knows it."""
    (line,) = [line for line in virsh("dumpxml", NAME).splitlines() if "<emulator>" in line]
    return line


def assert_nothing_kept() -> None:
    """No keeper, and no process that waits for the way back."""
    run("timeout", "20", "sh", "-c", f"while systemctl -q is-active '{KEEPERS}'; do sleep 0.1; done")
    assert shell("ls -A /run/virtcpr/kept") == ""
    assert run("pgrep", "-fc", "virtcpr.host.qemu.launch", check=False).out == "0\n"
    assert leftovers() == ""


def test_it_moves_up_and_down(guests: Guests) -> None:
    guests.start(DATABASE)
    to_and_fro.keep_old()

    to_and_fro.move(guests, DATABASE, 4, *PARKED)

    assert_nothing_kept()
    client.remove(DATABASE.name)


def test_a_build_that_cannot_load_it(guests: Guests) -> None:
    """Old QEMU has ended by then: its build, which is on the disk no more, is started again."""
    client.install_qemu("NEW")
    guests.start(DATABASE)
    process = client.pid(DATABASE.name)
    version = client.qemu_version(DATABASE.name)
    client.install_qemu("NEXT")
    guests.witness.mark()

    report = client.upgrade(DATABASE.name, "--no-rehearse", *PARKED)

    assert report["exit_code"] == 5, report
    (domain,) = report["domains"]
    assert domain["result"] == "rolled-back"
    said = provoke.said(report)
    assert "exceeds allocated max" in said
    assert AGAIN in said
    assert client.pid(DATABASE.name) != process
    assert client.qemu_version(DATABASE.name) == version
    guests.assert_well(DATABASE, beats=100)
    assert_nothing_kept()

    client.install_qemu("NEW")
    assert client.upgrade(DATABASE.name)["exit_code"] == 0  # as any other
    guests.assert_well(DATABASE)
    client.remove(DATABASE.name)


def test_one_that_is_suspended(guest: provoke.Guest) -> None:
    process, before = guest.is_watched(), emulator()
    virsh("suspend", NAME)

    (domain,) = provoke.upgrade(more=PARKED)["domains"]

    assert domain["result"] == "upgraded", domain
    assert virsh("domstate", NAME).strip() == "paused"
    virsh("resume", NAME)
    assert client.pid(NAME) != process
    assert emulator() != before
    guest.assert_well(client.pid(NAME))


@pytest.mark.parametrize(
    ("step", "happening"),
    [
        ("migrate", "kill -9 $NEW"),
        ("note", "kill -INT $PPID"),
        ("park", "kill -INT $PPID"),
        ("park", f"systemctl kill -s KILL '{KEEPERS}'"),
    ],
)
def test_old_qemu_keeps_it(guest: provoke.Guest, step: str, happening: str) -> None:
    process = guest.is_watched()

    report = provoke.upgrade(more=PARKED, at={step: happening})

    assert report["domains"][0]["result"] == "rolled-back", report
    guest.assert_well(process)
    assert_nothing_kept()


def test_new_qemu_that_ends_without_having_it(guest: provoke.Guest) -> None:
    process, before = guest.is_watched(), emulator()

    report = provoke.upgrade(more=PARKED, at={"load": "kill -9 $NEW"})

    assert report["domains"][0]["result"] == "rolled-back", report
    assert AGAIN in provoke.said(report)
    assert client.pid(NAME) != process
    assert emulator() == before
    guest.assert_well(client.pid(NAME))
    assert_nothing_kept()


# A build that is sound when it is asked, and can't make this machine.
BROKEN = "/usr/bin/qemu-broken"
SCRIPT = """#!/bin/sh
case "$*" in
*guest=*) exec {0} "$@" -device nosuch ;;
esac
exec {0} "$@"
"""


def test_new_qemu_that_cannot_make_a_device(guest: provoke.Guest) -> None:
    """virtcpr waits on its monitor by then, on a socket that the other process has, too."""
    process, before = guest.is_watched(), emulator()
    shell(f"cat > {BROKEN}; chmod 755 {BROKEN}", stdin=SCRIPT.format(provoke.other()))

    report = provoke.upgrade(emulator=BROKEN, more=PARKED)

    assert report["domains"][0]["result"] == "rolled-back", report
    assert "nosuch" in provoke.said(report)
    assert AGAIN in provoke.said(report)
    assert client.pid(NAME) != process
    assert emulator() == before
    guest.assert_well(client.pid(NAME))
    assert_nothing_kept()


def test_new_qemu_that_ends_and_may_have_run_it(guest: provoke.Guest) -> None:
    """What is kept may be older than the RAM then: the guest is reset, as after a power failure."""
    guest.is_watched()
    before = emulator()

    report = provoke.upgrade(more=PARKED, at={"commit": "kill -9 $NEW"})

    assert report["domains"][0]["result"] == "rolled-back", report
    assert "it was reset, because new QEMU had it and is gone" in provoke.said(report)
    assert emulator() == before
    guest.assert_well(guest.is_watched())
    assert_nothing_kept()


def test_new_qemu_that_ends_and_has_run_it(guest: provoke.Guest) -> None:
    """What is kept doesn't fit the RAM any more, which QEMU may notice (virtio): then the guest has to be started."""
    guest.is_watched()

    report = provoke.upgrade(more=PARKED, at={"place": "sleep 1; kill -9 $NEW"})

    (domain,) = report["domains"]
    if domain["result"] == "failed":
        assert "the guest can't be started again from what was kept of it: " in provoke.said(report)
        guest.assert_ended()
    else:
        assert "it was reset, because new QEMU had it and is gone" in provoke.said(report)
    guest.assert_well(guest.is_watched())
    assert_nothing_kept()


STAYS = ("migrate", "end-old")
GOES_ON = ("record",)


@pytest.mark.parametrize("step", [*STAYS, "load", *GOES_ON])  # test_chaos_parked.py has all of them
def test_the_guardian_settles_it(guest: provoke.Guest, step: str) -> None:
    """virtcpr is killed.  As long as old QEMU is there, it has the guest; then its build, started again; then new."""
    process, before = guest.is_watched(), emulator()

    now = provoke.killed_at(step, *PARKED, "--emulator", provoke.other())

    assert now == client.pid(NAME)
    assert (now == process) is (step in STAYS)
    assert (emulator() == before) is (step not in GOES_ON)
    guest.assert_well(now)
    assert_nothing_kept()


# Recovery, which ends just before it calls this function, and says what the journal says.
DIES = """
import glob, importlib, json, os, sys
from virtcpr import __main__

def dies(*_):
    (path,) = glob.glob("/run/virtcpr/journal/*.json")
    print(json.load(open(path))["state"], flush=True)
    os._exit(9)

module, _, function = sys.argv[1].rpartition(".")
setattr(importlib.import_module(f"virtcpr.actions.transfer.{module}"), function, dies)
sys.argv = ["virtcpr", "recover", "--all"]
sys.exit(__main__.main())
"""
NO_GUARDIAN = "systemctl kill -s KILL 'virtcpr-guardian-*'"


@pytest.mark.parametrize("step", ["load", "commit"])
def test_recovery_that_is_killed_is_taken_up_again(guest: provoke.Guest, step: str) -> None:
    """The process that it has given the guest to isn't taken for one that waits."""
    guest.is_watched()
    before = emulator()
    happening = f"{NO_GUARDIAN}; {'kill -9 $NEW; ' if step == 'commit' else ''}kill -9 $PPID"
    provoke.virtcpr(
        "upgrade", NAME, *PARKED, "--yes", "--no-rehearse", "--emulator", provoke.other(), at={step: happening}
    )

    first = run("python3", "-c", DIES, "ownership.run_new", check=False)
    assert first.code == 9, first
    now = int(run("pgrep", "qemu-system").out)
    provoke.await_guardian()  # recovery has one, too

    assert client.pid(NAME) == now
    assert emulator() == before
    guest.assert_well(guest.is_watched())
    assert_nothing_kept()


def test_recovery_says_so_before_it_lets_new_qemu_run(guest: provoke.Guest) -> None:
    """What is kept is too old then: if new ends now, nobody may resume the guest from that."""
    guest.is_watched()
    provoke.virtcpr(
        "upgrade", NAME, *PARKED, "--yes", "--no-rehearse", "--emulator", provoke.other(),
        at={"commit": f"{NO_GUARDIAN}; kill -9 $PPID"},
    )  # fmt: skip

    first = run("python3", "-c", DIES, "place_threads.lead_machine", check=False)

    assert (first.code, first.out) == (9, "committing\n"), first
    provoke.await_guardian()
    guest.assert_well(client.pid(NAME))
    assert_nothing_kept()


@pytest.mark.parametrize("ended", [False, True])
def test_what_is_kept_never_runs_after_libvirt_has_started_the_domain_again(guest: provoke.Guest, ended: bool) -> None:
    """Nobody settled it before the daemon started, without virtcpr's hook: the disks are newer than what is kept."""
    guest.is_watched()
    run("virtcpr", "hooks", "remove")
    done = provoke.virtcpr(
        "upgrade", NAME, *PARKED, "--yes", "--no-rehearse", "--emulator", provoke.other(),
        at={"load": f"{NO_GUARDIAN}; kill -9 $PPID"},
    )  # fmt: skip
    assert done.code != 0
    # Else virtlogd keeps libvirt from it: the domain's log is open still.
    shell("cp /etc/libvirt/qemu.conf /root/; echo 'stdio_handler = \"file\"' >> /etc/libvirt/qemu.conf")
    try:
        run("systemctl", "start", "libvirtd.socket", "libvirtd.service")
        provoke.await_shut_off()  # until then the daemon takes the guest for running
        virsh("start", NAME)
    finally:
        run("mv", "/root/qemu.conf", "/etc/libvirt/")
    process = client.pid(NAME)
    if ended:
        virsh("destroy", NAME)

    settled = run("virtcpr", "recover", "--all", check=False)

    assert "lost" in settled.out, settled
    if ended:
        assert "libvirt has given the guest up" in settled.out
        guest.assert_ended()
    else:
        assert f"libvirt started the domain again, in process {process}" in settled.out
        assert client.pid(NAME) == process
    guest.assert_well(guest.is_watched())
    assert_nothing_kept()


def test_what_was_never_run_is_refused(guest: provoke.Guest) -> None:
    """Here a websocket, whose port new QEMU binds itself."""
    shape = replace(SMALL, name="websocket", number=31)
    define(shape, lambda xml: xml.replace("</devices>", f"{WEBSOCKET}</devices>"))
    virsh("start", shape.name)

    report = client.upgrade(shape.name, "--force", *PARKED)

    (domain,) = report["domains"]
    assert domain["result"] == "blocked", domain
    (finding,) = domain["findings"]
    assert finding["code"] == "parked"
    assert finding["message"].startswith("mode parked was never run with: displays whose TCP port new QEMU binds")
    client.remove(shape.name)


def test_a_build_that_may_not_start_again_is_refused(guest: provoke.Guest) -> None:
    """Without its firmware no twin can be made, in either build."""
    process = guest.is_watched()
    run("mv", "/usr/share/seabios", "/usr/share/seabios.away")
    try:
        report = client.upgrade(NAME, "--force", *PARKED)
    finally:
        run("mv", "/usr/share/seabios.away", "/usr/share/seabios")

    (domain,) = report["domains"]
    assert domain["result"] == "blocked", domain
    assert "parked-unsure" in [finding["code"] for finding in domain["findings"]]
    guest.assert_well(process)


WEBSOCKET = "<graphics type='vnc' port='5977' autoport='no' websocket='5978'/>"
