"""The main job: guests of different shapes move to the upgraded QEMU, and stay the domains that they were."""

from __future__ import annotations

import difflib
import re

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import DATABASE, IMAGES, LEGACY, OFFICE, SMALL, Shape
from tests.lab.support.machine import Lab

SHAPES = (OFFICE, DATABASE, LEGACY)
# What a swap must change in a live XML: the pseudo-terminals.
MUST_DIFFER = re.compile(r"""<source path='/dev/pts/\d+'/>|<console type='pty' tty='/dev/pts/\d+'>""")


@pytest.fixture
def upgraded(guests: Guests) -> Guests:
    """Three guests started on OLD, NEW installed by apt."""
    client.install_qemu("OLD")
    guests.start(*SHAPES)
    client.install_qemu("NEW")
    return guests


def changed_lines(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    found = [line for line in lines if line[:3] not in ("---", "+++") and not line.startswith("@@")]
    return [line for line in found if not MUST_DIFFER.fullmatch(line[1:].strip())]


def identity(name: str) -> tuple[str, str]:
    return virsh("domid", name).strip(), virsh("domuuid", name).strip()


def test_all_move_in_one_blackout_and_virsh_works_on_all_of_them(upgraded: Guests) -> None:
    new = client.upstream(client.versions()["NEW"])
    before = {shape.name: (virsh("dumpxml", shape.name), identity(shape.name)) for shape in SHAPES}
    old_pids = {shape.name: client.pid(shape.name) for shape in SHAPES}
    upgraded.witness.mark()

    report = client.upgrade("--all")

    assert report["exit_code"] == 0
    assert {d["name"]: d["result"] for d in report["domains"]} == {s.name: "upgraded" for s in SHAPES}
    assert all(d["findings"] == [] for d in report["domains"]), report
    assert isinstance(report["blackout_ms"], float)
    for shape in SHAPES:
        upgraded.assert_well(shape)
        assert client.qemu_version(shape.name) == new
        xml, who = before[shape.name]
        assert identity(shape.name) == who
        assert changed_lines(xml, virsh("dumpxml", shape.name)) == []
        assert client.pid(shape.name) != old_pids[shape.name]
        _virsh_works(upgraded, shape)


def _virsh_works(guests: Guests, shape: Shape) -> None:
    _suspend_and_resume(guests, shape)
    _attach_and_detach_a_disk(shape)
    if shape.vnc:
        _display_answers(shape)
    if shape.agent:
        assert virsh("qemu-agent-command", shape.name, '{"execute":"guest-ping"}').strip() == '{"return":{}}'
    if shape.serial == "pty":
        _console_answers(shape)
    else:
        _console_log_grows(shape)
    _shut_down_and_start(guests, shape)


def _suspend_and_resume(guests: Guests, shape: Shape) -> None:
    virsh("suspend", shape.name)
    assert virsh("domstate", shape.name).strip() == "paused"
    virsh("resume", shape.name)
    assert virsh("domstate", shape.name).strip() == "running"
    guests.witness.beats(shape)


def _attach_and_detach_a_disk(shape: Shape) -> None:
    path = f"{IMAGES}/{shape.name}-extra.raw"
    run("truncate", "-s", "8M", path)
    bus = "vdz" if shape is not LEGACY else "sdz"
    virsh("attach-disk", shape.name, path, bus, "--targetbus", "virtio" if bus == "vdz" else "usb")
    assert path in virsh("domblklist", shape.name)
    virsh("detach-disk", shape.name, bus)


def _display_answers(shape: Shape) -> None:
    host, _, display = virsh("domdisplay", shape.name).strip().removeprefix("vnc://").partition(":")
    greeting = shell(f"socat -T 2 -u TCP:{host}:{5900 + int(display)} - | head -c 3")
    assert greeting == "RFB"


def _console_answers(shape: Shape) -> None:
    tty = virsh("ttyconsole", shape.name).strip()
    said = shell(f"(sleep 1; echo hello; sleep 2) | socat -T 4 - {tty},rawer | tr -d '\\r'", timeout=30)
    assert "witness: echo hello" in said
    assert re.search(r"witness: .*seq=\d+", said)


def _console_log_grows(shape: Shape) -> None:
    size = int(run("stat", "-c", "%s", shape.serial_path).out)
    script = f"until [ $(stat -c %s {shape.serial_path}) -gt {size} ]; do sleep 0.1; done"
    run("timeout", "20", "sh", "-c", script)


def _shut_down_and_start(guests: Guests, shape: Shape) -> None:
    virsh("shutdown", "--mode", "acpi", shape.name)
    run(
        "timeout",
        "60",
        "sh",
        "-c",
        f"until virsh domstate {shape.name} | grep -q 'shut off'; do sleep 0.2; done",
    )
    virsh("start", shape.name)
    guests.watch(shape)
    assert client.qemu_version(shape.name) == client.upstream(client.versions()["NEW"])


def test_a_domain_that_runs_the_installed_build_is_current(guests: Guests) -> None:
    guests.start(SMALL)
    process = client.pid(SMALL.name)

    report = client.upgrade("--all")

    assert (report["exit_code"], report["domains"][0]["result"]) == (0, "current")
    assert report["blackout_ms"] is None
    assert client.pid(SMALL.name) == process


def test_a_suspended_guest_is_moved_and_stays_suspended(guests: Guests) -> None:
    client.install_qemu("OLD")
    guests.start(SMALL)
    virsh("suspend", SMALL.name)
    client.install_qemu("NEW")
    guests.witness.mark()

    report = client.upgrade(SMALL.name)

    assert report["domains"][0]["result"] == "upgraded"
    assert virsh("domstate", "--reason", SMALL.name).strip() == "paused (user)"
    assert client.monitor(SMALL.name, "query-status")["status"] == "paused"
    assert guests.witness.report(SMALL)["received"] == 0
    virsh("resume", SMALL.name)
    guests.assert_well(SMALL)


def test_only_the_named_domains_move(guests: Guests, lab: Lab) -> None:
    from dataclasses import replace

    other = replace(SMALL, name="other", number=20)
    client.install_qemu("OLD")
    guests.start(SMALL, other)
    client.install_qemu("NEW")
    process = client.pid(other.name)

    report = client.upgrade(SMALL.name)

    assert [d["name"] for d in report["domains"]] == [SMALL.name]
    assert client.pid(other.name) == process
    guests.assert_well(SMALL)
    guests.assert_well(other)
