"""A guest as a machine of systemd-machined."""

from __future__ import annotations

from uuid import UUID

from tests.lab.support import client
from tests.lab.support.client import run, virsh

SYSTEMD = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
MACHINED = ("org.freedesktop.machine1", "/org/freedesktop/machine1", "org.freedesktop.machine1.Manager")


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


def machine_of(name: str) -> str:
    """As libvirt calls it (virDomainGenerateMachineName)."""
    return f"qemu-{virsh('domid', name).strip()}-{name}"


def scope_of(machine: str) -> str:
    return f"machine-{machine.replace('-', chr(92) + 'x2d')}.scope"
