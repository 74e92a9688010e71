"""Mode live: guests that were never prepared are copied into a QEMU with shared RAM, and can be handed over then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILD, REBUILT
from tests.lab.support.chaos import FULL
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import DATABASE, IMAGES, LEGACY, OFFICE, SMALL
from tests.lab.support.machine import Lab
from tests.lab.support.preparing import define, numa
from tests.lab.support.provoke import NAME, Guest, killed_at, new_process, said, upgrade, virtcpr
from tests.lab.support.reboots import nothing_left
from virtcpr.domain.shared_ram import FRAGMENT

LIVE = ("--mode", "live")
SECURE = replace(SMALL, name="secure", number=22, firmware="secboot")
CROWDED = replace(
    SMALL, name="crowded", number=23, vcpus=4, nics=2, iothreads=2, vnc=True, balloon=True, rng=True, serial="log"
)
MORE = (SECURE, CROWDED) if FULL else ()
SHAPES = tuple(replace(shape, prepared=False) for shape in (OFFICE, DATABASE, LEGACY, *MORE))
PEER = replace(SMALL, name="peer", number=19)
THROUGH = replace(SMALL, name="through", number=20, memory_mib=1024, ram_mib=512, prepared=False)
KEPT = replace(SMALL, name="kept", number=25, prepared=False)
CELLS = replace(SMALL, name="cells", number=24, prepared=False)
FAST = replace(SMALL, name="fast", number=21, memory_mib=768, ram_mib=512, ram_pause_us=2_000, prepared=False)
SHARED = "<shmem name='peer' role='master'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>"
READY = ["<source type='memfd'/>", "<access mode='shared'/>", "<qemu:arg value='aux-ram-share=on'/>"]
# At `connect` and later libvirt's daemon is away.
BEFORE = ("make", "compare", "copy", "connect", "switch", "switchover", "received") if FULL else ("copy", "switchover")
STEPS = ("arm", *BEFORE, "commit", "end-old", "record") if FULL else ("make", "switchover", "received", "end-old")


@pytest.fixture(scope="module", autouse=True)
def rebuilt(lab: Lab) -> None:
    run("python3", "-", stdin=REBUILD)


def test_they_are_made_ready_at_once_and_can_be_handed_over_then(guests: Guests) -> None:
    guests.start(*SHAPES)
    before = {shape.name: virsh("dumpxml", "--inactive", shape.name) for shape in SHAPES}
    assert client.upgrade("--all", "--mode", "transfer")["exit_code"] == 0  # the build is the installed one
    refused = client.upgrade("--all", "--mode", "transfer", "--force")
    assert {domain["result"] for domain in refused["domains"]} == {"blocked"}
    guests.witness.mark()

    prepared = json.loads(client.virtcpr("prepare", "--live", "--all", "--yes", "-o", "json", timeout=240).out)

    assert (prepared["exit_code"], {domain["result"] for domain in prepared["domains"]}) == (0, {"prepared"}), prepared
    report = prepared["moves"]
    results = [(domain["result"], domain["mode"], *codes(domain)) for domain in report["domains"]]
    assert results == [("upgraded", "live", "boot-rom")] * len(SHAPES), report
    assert report["blackouts"]["times"] == len(SHAPES)
    for shape in SHAPES:
        guests.assert_well(shape)
        assert [line for line in READY if line in virsh("dumpxml", shape.name)] == READY
        assert [line for line in READY if line in virsh("dumpxml", "--inactive", shape.name)] == READY
        assert switched_on(shape.name) == ["events"]
    again = json.loads(client.virtcpr("prepare", "--live", "--all", "--yes", "-o", "json").out)
    assert {domain["result"] for domain in again["domains"]} == {"unchanged"}
    assert {domain["result"] for domain in again["moves"]["domains"]} == {"current"}
    for emulator in (REBUILT, EMULATOR):
        handed_over = client.upgrade("--all", "--mode", "transfer", "--emulator", emulator)
        assert {domain["result"] for domain in handed_over["domains"]} == {"upgraded"}, handed_over
    client.virtcpr("prepare", "--undo", "--all", "--yes")
    for shape in SHAPES:
        assert virsh("dumpxml", "--inactive", shape.name) == before[shape.name]
        guests.assert_well(shape)
        virsh("shutdown", "--mode", "acpi", shape.name)
        run("timeout", "60", "sh", "-c", f"until virsh domstate {shape.name} | grep -q 'shut off'; do sleep 0.2; done")


def codes(domain: Any) -> list[str]:
    return [finding["code"] for finding in domain["findings"]]


def test_shared_memory_stays_where_it_is(guests: Guests) -> None:
    """RAM in a file of libvirt's own is copied elsewhere (test_prepare); one that others have isn't."""
    guests.adopt(PEER)
    define(PEER, lambda xml: xml.replace("</devices>", f"{SHARED}</devices>"))
    virsh("start", PEER.name)
    (domain,) = client.upgrade(PEER.name, *LIVE, "--force")["domains"]
    assert (domain["result"], "ram-file" in codes(domain)) == ("blocked", True), domain


def test_by_way_of_a_file(guests: Guests) -> None:
    """Where there is no memory for a second copy of its RAM."""
    guests.start(THROUGH)
    guests.witness.mark()

    prepared = json.loads(
        client.virtcpr("prepare", "--live", "--mode", "reboot", "--yes", THROUGH.name, "-o", "json", timeout=120).out
    )

    assert [(domain["result"], domain["mode"]) for domain in prepared["moves"]["domains"]] == [("upgraded", "reboot")]
    nothing_left(THROUGH.name)
    guests.assert_well(THROUGH)
    for which in ((), ("--inactive",)):
        assert [line for line in READY if line in virsh("dumpxml", THROUGH.name, *which)] == READY
    again = json.loads(client.virtcpr("prepare", "--live", "--mode", "reboot", "--yes", THROUGH.name, "-o", "json").out)
    assert {domain["result"] for domain in again["moves"]["domains"]} == {"current"}
    for emulator in (REBUILT, EMULATOR):
        handed_over = client.upgrade(THROUGH.name, "--mode", "transfer", "--emulator", emulator)
        assert {domain["result"] for domain in handed_over["domains"]} == {"upgraded"}, handed_over
    guests.assert_well(THROUGH)


def test_what_cannot_be_started_ready_runs_again_as_it_was(guests: Guests) -> None:
    """By way of a file its old process is gone by then."""
    guests.start(KEPT)
    guests.witness.mark()
    spoilt = {"domain.shared_ram.FRAGMENT": FRAGMENT.replace("aux-ram-share=on", "no-such-property=on")}

    done = virtcpr("prepare", "--live", "--mode", "reboot", "--yes", KEPT.name, "-o", "json", deadlines=spoilt)

    (domain,) = json.loads(done.out)["moves"]["domains"]
    assert domain["result"] == "failed", done
    assert "no-such-property" in said({"domains": [domain]})
    process = client.pid(KEPT.name)
    assert f"the guest runs again as it was, not ready, in process {process}" in said({"domains": [domain]})
    nothing_left(KEPT.name)
    guests.assert_well(KEPT)
    assert [line for line in READY if line in virsh("dumpxml", KEPT.name)] == []


@pytest.mark.thorough
def test_an_old_machine_names_its_ram_otherwise_in_memfds(guests: Guests) -> None:
    """Its state couldn't be loaded; a copy can."""
    guests.adopt(CELLS)
    define(CELLS, lambda xml: numa()(xml.replace('machine="q35"', 'machine="pc-q35-4.0"')))
    virsh("start", CELLS.name)
    virsh("suspend", CELLS.name)
    ready = ("prepare", "--live", "--yes", CELLS.name, "-o", "json")
    (refused,) = json.loads(client.virtcpr(*ready, "--mode", "reboot").out)["moves"]["domains"]
    assert (refused["result"], "ram-names" in codes(refused)) == ("blocked", True), refused
    (copied,) = json.loads(client.virtcpr(*ready).out)["moves"]["domains"]
    assert copied["result"] == "upgraded", copied


@pytest.mark.thorough
def test_a_guest_that_writes_faster_than_it_is_copied(guests: Guests) -> None:
    """QEMU is slowed down, as no guest here is that fast.  libvirt's daemon isn't away while that is found out."""
    guests.start(FAST)
    process = client.pid(FAST.name)
    slowly = {"actions.monitor.precopy.UNLIMITED": 24 << 20}
    options = ("--no-rehearse", "--yes", "-o", "json", "--timeout", "20", "--emulator", REBUILT)
    report = json.loads(virtcpr("upgrade", FAST.name, *LIVE, *options, deadlines=slowly).out)
    (domain,) = report["domains"]
    assert (domain["result"], report["blackouts"]) == ("rolled-back", None), report
    assert "isn't copied within 20 s: its guest writes" in said(report)
    # It seems to write little until libvirt's daemon is away.
    late = slowly | {"actions.transfer.copying.LIVELY": 1 << 40, "actions.transfer.copying.SWITCH_SECONDS": 3}
    report = json.loads(virtcpr("upgrade", FAST.name, *LIVE, *options, deadlines=late).out)
    assert report["domains"][0]["result"] == "rolled-back", report
    assert report["blackouts"]["times"] == 1
    assert "after 3 s" in said(report)
    assert client.pid(FAST.name) == process
    guests.assert_well(FAST)
    assert client.upgrade(FAST.name, *LIVE, "--emulator", REBUILT)["domains"][0]["result"] == "upgraded"
    guests.assert_well(FAST)


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Guest]:
    """More of it has pages than is copied while libvirt's daemon is away."""
    made = Guest(prepared=False, memory_mib=768, ram_mib=512)
    yield made
    made.end()


def watched(guest: Guest) -> int:
    """Its process; it was never moved by mode live."""
    if "memfd" in virsh("dumpxml", NAME, "--xpath", "//memoryBacking"):
        virsh("destroy", NAME)
    return guest.is_watched()


def switched_on(name: str = NAME) -> list[str]:
    """The capabilities of its migrations."""
    capabilities = client.monitor(name, "query-migrate-capabilities")
    return [one["capability"] for one in capabilities if one["state"]]


def assert_as_before(guest: Guest, process: int) -> None:
    """It runs on in old QEMU, whose settings are as they were."""
    guest.assert_well(process)
    assert "memoryBacking" not in virsh("dumpxml", NAME)
    assert switched_on() == ["events"]
    limits = client.monitor(NAME, "query-migrate-parameters")
    assert (limits["downtime-limit"], limits["multifd-channels"], limits["max-bandwidth"]) == (300, 2, 134217728)
    assert limits["max-cpu-throttle"] == 99


@pytest.mark.parametrize("step", BEFORE)
def test_new_qemu_is_killed(guest: Guest, step: str) -> None:
    process = watched(guest)
    report = upgrade(more=LIVE, at={step: "kill -9 $NEW"})
    assert report["domains"][0]["result"] == "rolled-back", report
    assert_as_before(guest, process)


def test_it_is_interrupted_while_ram_is_copied(guest: Guest) -> None:
    process = watched(guest)
    report = upgrade(more=LIVE, at={"copy": "kill -INT $PPID"})
    assert report["domains"][0]["result"] == "rolled-back", report
    assert "interrupted" in said(report)
    assert_as_before(guest, process)


def test_it_is_not_copied_in_time(guest: Guest) -> None:
    process = watched(guest)
    report = upgrade(more=(*LIVE, "--timeout", "0.02"))
    assert report["domains"][0]["result"] == "rolled-back", report
    assert "isn't copied within 0.02 s: its guest writes" in said(report)
    assert_as_before(guest, process)


@pytest.mark.parametrize("change", ["attach", "snapshot"])
def test_what_changes_meanwhile_is_noticed(guest: Guest, change: str) -> None:
    process = watched(guest)
    extra = f"{IMAGES}/{NAME}-extra.raw"
    run("truncate", "-s", "8M", extra)
    commands = {
        "attach": f"virsh attach-disk {NAME} {extra} vdz >/dev/null",
        "snapshot": f"virsh snapshot-create-as {NAME} --disk-only --no-metadata --atomic over >/dev/null",
    }
    report = upgrade(more=LIVE, at={"copy": commands[change]})
    assert report["domains"][0]["result"] == "rolled-back", report
    assert f"{NAME} changed" in said(report)
    if change == "attach":
        virsh("detach-disk", NAME, "vdz")
    else:
        shell(f"virsh blockcommit {NAME} vda --active --pivot --wait >/dev/null; rm -f {IMAGES}/{NAME}-0.over")
    assert_as_before(guest, process)


def test_it_is_destroyed_while_it_is_copied(guest: Guest) -> None:
    watched(guest)
    report = upgrade(more=LIVE, at={"copy": f"virsh destroy {NAME} >/dev/null"})
    assert report["domains"][0]["result"] == "failed", report
    guest.assert_ended()


@pytest.mark.thorough
def test_a_suspended_guest_stays_suspended(guest: Guest) -> None:
    watched(guest)
    virsh("suspend", NAME)
    report = upgrade(more=LIVE)
    assert report["domains"][0]["result"] == "upgraded", report
    assert virsh("domstate", NAME).strip() == "paused"
    virsh("resume", NAME)
    guest.assert_well(new_process(report))


@pytest.mark.parametrize("step", STEPS)
def test_virtcpr_is_killed(guest: Guest, step: str) -> None:
    watched(guest)
    process = killed_at(step, *LIVE)
    guest.assert_well(process)
    assert switched_on() == ["events"]  # in either QEMU


@pytest.mark.thorough
def test_libvirts_daemon_is_killed_while_ram_is_copied(guest: Guest) -> None:
    process = watched(guest)
    report = upgrade(more=LIVE, at={"copy": "kill -9 $(cat /run/libvirtd.pid)"})
    assert report["domains"][0]["result"] in ("rolled-back", "upgraded"), report
    guest.assert_well(process if report["domains"][0]["result"] == "rolled-back" else new_process(report))


@pytest.mark.thorough
def test_old_qemu_is_killed_while_ram_is_copied(guest: Guest) -> None:
    watched(guest)
    report = upgrade(more=LIVE, at={"copy": "kill -9 $OLD"})
    assert report["domains"][0]["result"] == "failed", report
    guest.assert_ended()
