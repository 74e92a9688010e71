"""Machines that aren't a PC: no PCI at all, another architecture; bare ones, for the lab has no system for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import client
from tests.lab.client import run, shell, virsh
from tests.lab.guests import IMAGES, WITNESS
from tests.lab.machine import Lab
from tests.lab.test_failure import EMULATOR, REBUILD, REBUILT

AARCH64 = "/usr/lib/virtcpr-lab/aarch64/usr/bin/qemu-system-aarch64"
DOMAIN = """
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name><memory unit='MiB'>128</memory><vcpu>{vcpus}</vcpu>
  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
  {machine}
  <devices>
    <emulator>{emulator}</emulator>
    <controller type='usb' model='none'/><serial type='pty'/><memballoon model='none'/>
    {devices}
  </devices>
  <qemu:commandline><qemu:arg value='-machine'/><qemu:arg value='aux-ram-share=on'/></qemu:commandline>
</domain>
"""
MICROVM = {
    "name": "tiny",
    "vcpus": "1",
    "emulator": EMULATOR,
    "machine": "<os><type arch='x86_64' machine='microvm'>hvm</type>"
    f"<kernel>{WITNESS}/vmlinuz</kernel><initrd>{WITNESS}/initrd</initrd><cmdline>console=ttyS0</cmdline></os>",
    "devices": "",
}
ARM = {
    "name": "arm",
    "vcpus": "2",
    "emulator": AARCH64,
    "machine": "<os><type arch='aarch64' machine='virt'>hvm</type></os><features><gic version='3'/></features>"
    "<cpu mode='custom'><model>cortex-a57</model></cpu>",
    "devices": "<controller type='scsi' model='virtio-scsi'/>"
    f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{IMAGES}/arm.qcow2'/>"
    "<target dev='vda' bus='virtio'/></disk>"
    "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
}


@pytest.fixture(scope="module", autouse=True)
def rebuilt(lab: Lab) -> Iterator[None]:
    run("python3", "-", stdin=REBUILD)
    run("python3", "-", stdin=REBUILD.replace(repr(EMULATOR), repr(AARCH64)).replace(repr(REBUILT), f"'{AARCH64}-2'"))
    run("qemu-img", "create", "-q", "-f", "qcow2", f"{IMAGES}/arm.qcow2", "16M")
    yield
    for machine in (MICROVM, ARM):
        client.remove(machine["name"])


@pytest.mark.parametrize(
    ("machine", "other", "expected"),
    [(MICROVM, REBUILT, ["machine-unversioned"]), (ARM, f"{AARCH64}-2", [])],
    ids=["microvm", "aarch64"],
)
def test_another_machine_moves_there_and_back(machine: dict[str, str], other: str, expected: list[str]) -> None:
    """What isn't stopped stays: the same devices and images, the vCPUs where they were, and virsh works on it."""
    name = machine["name"]
    shell(f"virsh -q define /dev/stdin; virsh -q start {name}", stdin=DOMAIN.format(**machine))
    before = views(name)
    for emulator in (other, machine["emulator"]):
        report = client.upgrade(name, "--emulator", emulator)
        (domain,) = report["domains"]
        assert (report["exit_code"], domain["result"]) == (0, "upgraded"), report
        assert [finding["code"] for finding in domain["findings"]] == expected, report
        assert client.pid(name) == domain["to"]["pid"]
        assert views(name) == before
    assert client.monitor(name, "query-status")["status"] == "running"
    virsh("reset", name)
    virsh("suspend", name)
    virsh("resume", name)
    assert virsh("domstate", name).strip() == "running"


def views(name: str) -> tuple[object, ...]:
    tree = [line for line in virsh("qemu-monitor-command", name, "--hmp", "info qtree").splitlines() if "dev: " in line]
    nodes = [(n["node-name"], n["file"]) for n in client.monitor(name, "query-named-block-nodes", flat=True)]
    cpus = [cpu["cpu-index"] for cpu in client.monitor(name, "query-cpus-fast")]
    return tree, nodes, cpus
