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


def machine_of(name: str) -> str:
    """As libvirt calls it (virDomainGenerateMachineName)."""
    return f"qemu-{virsh('domid', name).strip()}-{name}"


def scope_of(machine: str) -> str:
    return f"machine-{machine.replace('-', chr(92) + 'x2d')}.scope"


def make_a_machine_of(name: str) -> str:
    """What libvirt does where it has cgroup controllers, which the lab has not (virSystemdCreateMachine); its name."""
    process, machine = str(client.pid(name)), machine_of(name)
    properties = ("2", "PIDs", "au", "1", process, "Slice", "s", "machine.slice")
    scope = ("StartTransientUnit", "ssa(sv)a(sa(sv))", scope_of(machine), "fail", *properties, "0")
    run("busctl", "call", *SYSTEMD, *scope)
    entered = 'until grep -qF "$1" "/proc/$2/cgroup"; do sleep 0.1; done'
    run("timeout", "10", "sh", "-c", entered, "sh", scope_of(machine), process)
    uuid = [str(byte) for byte in UUID(virsh("domuuid", name).strip()).bytes]
    register = ("RegisterMachineWithNetwork", "sayssusai", machine, "16", *uuid, "libvirt-qemu", "vm", process, "", "0")
    run("busctl", "call", *MACHINED, *register)
    return machine


def leader(machine: str) -> int:
    return int(run("machinectl", "show", "-p", "Leader", "--value", machine).out)


def test_the_leader_follows_and_a_restart_of_machined_harms_nobody(guests: Guests) -> None:
    run("python3", "-", stdin=REBUILD)
    guests.start(SMALL)
    machine = make_a_machine_of(SMALL.name)
    assert leader(machine) == client.pid(SMALL.name)

    report = client.upgrade(SMALL.name, "--emulator", REBUILT)

    assert report["domains"][0]["result"] == "upgraded", report
    assert report["domains"][0]["findings"] == []
    process = client.pid(SMALL.name)
    assert leader(machine) == process
    assert scope_of(machine) in run("cat", f"/proc/{process}/cgroup").out
    shell("systemctl restart systemd-machined; machinectl list")
    assert client.pid(SMALL.name) == process
    guests.assert_well(SMALL)
