"""systemd-machined stops a machine whose leader is gone: after a swap the leader must be the new process."""

from __future__ import annotations

from uuid import UUID

from tests.lab import client
from tests.lab.client import run, shell, virsh
from tests.lab.conftest import Guests
from tests.lab.guests import SMALL
from tests.lab.test_failure import REBUILD, REBUILT

SYSTEMD = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
MACHINED = ("org.freedesktop.machine1", "/org/freedesktop/machine1", "org.freedesktop.machine1.Manager")
MACHINE = "qemu-1-small"


def make_a_machine_of(name: str) -> None:
    """What libvirt does where it has cgroup controllers, which the lab has not (virSystemdCreateMachine)."""
    process = str(client.pid(name))
    scope = (
        "StartTransientUnit",
        "ssa(sv)a(sa(sv))",
        "machine-small.scope",
        "fail",
        "1",
        "PIDs",
        "au",
        "1",
        process,
        "0",
    )
    run("busctl", "call", *SYSTEMD, *scope)
    run("timeout", "10", "sh", "-c", f"until grep -q machine-small.scope /proc/{process}/cgroup; do sleep 0.1; done")
    uuid = [str(byte) for byte in UUID(virsh("domuuid", name).strip()).bytes]
    register = ("RegisterMachineWithNetwork", "sayssusai", MACHINE, "16", *uuid, "libvirt-qemu", "vm", process, "", "0")
    run("busctl", "call", *MACHINED, *register)


def leader() -> int:
    return int(run("machinectl", "show", "-p", "Leader", "--value", MACHINE).out)


def test_the_leader_follows_and_a_restart_of_machined_harms_nobody(guests: Guests) -> None:
    run("python3", "-", stdin=REBUILD)
    guests.start(SMALL)
    make_a_machine_of(SMALL.name)
    assert leader() == client.pid(SMALL.name)

    report = client.upgrade(SMALL.name, "--emulator", REBUILT)

    assert report["domains"][0]["result"] == "upgraded", report
    assert report["domains"][0]["findings"] == []
    process = client.pid(SMALL.name)
    assert leader() == process
    assert "machine-small.scope" in run("cat", f"/proc/{process}/cgroup").out
    shell("systemctl restart systemd-machined; machinectl list")
    assert client.pid(SMALL.name) == process
    guests.assert_well(SMALL)
