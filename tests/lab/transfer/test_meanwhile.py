"""Between the two stages: new QEMU is made, libvirt's daemon is there, and somebody uses virsh.

Each of it ends in a move, or in a clean roll-back.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILT, UNITS
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import IMAGES
from tests.lab.support.machine import Lab
from tests.lab.support.provoke import NAME, POWER_OFF, RESET, Guest, new_process, said, upgrade

# The last step before the daemon is stopped: old waits in its migration, new has made its devices.
LAST = "place"
SNAPSHOT, EXTRA = f"{IMAGES}/meanwhile.qcow2", f"{IMAGES}/extra.raw"
# It is never read from, so that the migration goes on.
LISTENER = """
import os, socket, time
one = socket.socket(socket.AF_UNIX)
one.bind("/run/own.part")
os.chmod("/run/own.part", 0o666)
one.listen()
os.rename("/run/own.part", "/run/own")
connection, _ = one.accept()
time.sleep(600)
"""
QMP = f"virsh -q qemu-monitor-command {NAME}"
OWN_MIGRATION = f"""
setsid python3 -c '{LISTENER}' </dev/null >/dev/null 2>&1 &
echo $! >/run/own.pid
until [ -S /run/own ]; do sleep 0.1; done
{QMP} '{{"execute": "migrate", "arguments": {{"uri": "unix:/run/own"}}}}'
"""
BLOCK_JOB = f"virsh -q blockcommit {NAME} vda --active --pivot --wait"


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Guest]:
    made = Guest()
    yield made
    made.end()


def result(report: dict[str, object]) -> object:
    return report["domains"][0]["result"]  # type: ignore[index]


@pytest.mark.parametrize(
    "command",
    [
        f"virsh list; virsh domstate {NAME}; virsh domstats {NAME}; virsh domjobinfo {NAME}; virsh dominfo {NAME}",
        f"virsh suspend {NAME}; virsh resume {NAME}",
    ],
    ids=["looks", "suspends and resumes"],
)
def test_the_move_goes_on(guest: Guest, command: str) -> None:
    guest.is_watched()
    report = upgrade(at={LAST: command})
    assert result(report) == "upgraded", report
    guest.assert_well(new_process(report))


def test_devices_cannot_be_attached_and_virsh_says_so(guest: Guest) -> None:
    guest.is_watched()
    attach = f"truncate -s 1M {EXTRA}; ! virsh attach-disk {NAME} {EXTRA} vdz --targetbus virtio 2> /run/said"
    report = upgrade(at={LAST: attach})
    assert result(report) == "upgraded", report
    assert "device_add not allowed while migrating" in run("cat", "/run/said").out
    guest.assert_well(new_process(report))
    virsh("attach-disk", NAME, EXTRA, "vdz", "--targetbus", "virtio")
    virsh("detach-disk", NAME, "vdz")


def test_nor_can_they_be_detached(guest: Guest) -> None:
    guest.is_watched()
    run("truncate", "-s", "1M", EXTRA)
    virsh("attach-disk", NAME, EXTRA, "vdz", "--targetbus", "virtio")
    report = upgrade(at={LAST: f"! virsh detach-disk {NAME} vdz 2> /run/said"})
    assert result(report) == "upgraded", report
    assert "not allowed while migrating" in run("cat", "/run/said").out
    virsh("detach-disk", NAME, "vdz")
    guest.assert_well(new_process(report))


def test_nor_can_the_guest_be_saved(guest: Guest) -> None:
    guest.is_watched()
    report = upgrade(at={LAST: f"! virsh save {NAME} /var/tmp/meanwhile.save 2> /run/said"})
    assert result(report) == "upgraded", report
    assert "migration" in run("cat", "/run/said").out
    guest.assert_well(new_process(report))


def test_a_snapshot_turns_it_back(guest: Guest) -> None:
    """QEMU lets it through: new would write below the overlay."""
    process = guest.is_watched()
    snapshot = f"snapshot-create-as {NAME} one --disk-only --no-metadata --diskspec vda,file={SNAPSHOT}"
    report = upgrade(at={LAST: f"virsh -q {snapshot}"})
    assert result(report) == "rolled-back", report
    assert f"{NAME} changed " in said(report)
    guest.assert_well(process)
    shell(f"{BLOCK_JOB}; rm {SNAPSHOT}")


def test_a_block_job_turns_it_back(guest: Guest) -> None:
    process = guest.is_watched()
    shell(f"virsh -q snapshot-create-as {NAME} one --disk-only --no-metadata --diskspec vda,file={SNAPSHOT}")
    report = upgrade(at={LAST: BLOCK_JOB})
    assert result(report) == "rolled-back", report
    guest.assert_well(process)
    run("rm", SNAPSHOT)


def test_a_migration_of_somebody_elses_goes_on(guest: Guest) -> None:
    process = guest.is_watched()
    report = upgrade(at={"arm": OWN_MIGRATION})
    try:
        assert (result(report), "QEMU is busy with another migration" in said(report)) == ("rolled-back", True), report
        assert client.monitor(NAME, "query-migrate")["status"] == "active"
        assert client.monitor(NAME, "query-migrate-parameters")["mode"] == "normal"
    finally:
        shell(f"""{QMP} '{{"execute": "migrate_cancel"}}'; kill $(cat /run/own.pid); rm -f /run/own""")
    guest.assert_well(process)


def test_a_guest_that_was_suspended_stays_suspended(guest: Guest) -> None:
    process = guest.is_watched()
    report = upgrade(at={LAST: f"virsh suspend {NAME}"})
    assert result(report) == "rolled-back", report
    assert virsh("domstate", "--reason", NAME).strip() == "paused (user)"
    virsh("resume", NAME)
    guest.assert_well(process)


def test_a_guest_that_is_reset_is_carried(guest: Guest) -> None:
    guest.is_watched()
    report = upgrade(at={LAST: f"virsh reset {NAME}"})
    assert result(report) == "upgraded", report
    guest.is_watched()
    guest.assert_well(new_process(report))


@pytest.mark.parametrize("how", ["destroy", "power off", "kill"])
def test_a_guest_that_ends_has_ended(guest: Guest, how: str) -> None:
    guest.is_watched()
    match how:
        case "destroy":
            report = upgrade(at={LAST: f"virsh -q destroy {NAME}"})
        case "kill":
            report = upgrade(at={LAST: "kill -9 $OLD"})
        case _:
            report = upgrade(say={LAST: ("old", POWER_OFF)})
    assert result(report) == "failed", report
    assert "before it could be moved" in said(report)
    assert report["blackout_ms"] is None or how == "power off"
    guest.assert_ended()


def test_a_guest_that_reboots_itself_is_carried(guest: Guest) -> None:
    guest.is_watched()
    report = upgrade(say={LAST: ("old", RESET)})
    assert result(report) == "upgraded", report
    guest.is_watched()
    guest.assert_well(new_process(report))


@pytest.mark.parametrize(
    ("step", "command"),
    [(step, command) for step in ("migrate", "attach", LAST) for command in ("restart", "kill -9")],
)
def test_a_daemon_that_starts_anew_finds_old_alone(guest: Guest, step: str, command: str) -> None:
    """New listens beside old's path: libvirt keeps old's guest, and virtcpr moves it, or gives up."""
    process = guest.is_watched()
    anew = "systemctl restart libvirtd"
    if command == "kill -9":
        anew = f"kill -9 $(pidof libvirtd); systemctl reset-failed {UNITS}; systemctl start {UNITS}"
    report = upgrade(at={step: f"{anew}; virsh -q list"})
    assert result(report) in ("upgraded", "rolled-back"), report
    guest.assert_well(process if result(report) == "rolled-back" else new_process(report))


def test_new_qemu_that_dies(guest: Guest) -> None:
    process = guest.is_watched()
    report = upgrade(at={LAST: "kill -9 $NEW"})
    assert result(report) == "rolled-back", report
    assert report["blackout_ms"] is None
    guest.assert_well(process)


def test_what_listens_is_where_it_was(guest: Guest) -> None:
    """After a move libvirt's paths lead to new QEMU, whose sockets are like old's; nothing is left beside them."""
    guest.is_watched()
    look = f"stat -c '%n %a %U %G' /var/lib/libvirt/qemu/domain-*-{NAME}/monitor.sock; ls -R /run/libvirt/qemu/channel"
    before = shell(look)
    for emulator in (REBUILT, EMULATOR):
        report = upgrade(emulator=emulator)
        assert result(report) == "upgraded", report
        assert shell(look) == before
        assert shell("find /var/lib/libvirt/qemu /run/libvirt -name '*.virtcpr'") == ""
    guest.assert_well(new_process(report))


def test_a_monitor_that_is_not_where_it_was_turns_it_back(guest: Guest) -> None:
    """libvirt's daemon would find nobody there when it starts."""
    process = guest.is_watched()
    path = f"/var/lib/libvirt/qemu/domain-*-{NAME}/monitor.sock"
    report = upgrade(at={"spawn": f"for path in {path}; do mv $path $path.aside; done"})
    shell(f"for path in {path}.aside; do mv $path ${{path%.aside}}; done")
    assert result(report) == "rolled-back", report
    assert "old QEMU's monitor can't be reached at" in said(report)
    assert report["blackout_ms"] is None
    guest.assert_well(process)
