"""Machines that aren't a PC: no PCI at all, another architecture; bare ones, for the lab has no system for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILD, REBUILT
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import IMAGES, WITNESS
from tests.lab.support.machine import Lab

AARCH64 = "/usr/lib/virtcpr-lab/aarch64/usr/bin/qemu-system-aarch64"
RISCV64 = "/usr/lib/virtcpr-lab/riscv64/usr/bin/qemu-system-riscv64"
OPENSBI = "/usr/lib/virtcpr-lab/riscv64/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin"
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
RISCV = {
    "name": "riscv",
    "vcpus": "2",
    "emulator": RISCV64,
    "machine": f"<os><type arch='riscv64' machine='virt'>hvm</type><loader type='rom'>{OPENSBI}</loader></os>",
    "devices": ARM["devices"].replace("arm.", "riscv."),
}
# Its firmware runs in SMM, and alone writes to its variables; the lab has no system that it would let boot.
SECURE = {
    "name": "secure",
    "vcpus": "2",
    "emulator": EMULATOR,
    "machine": "<os><type arch='x86_64' machine='q35'>hvm</type>"
    "<loader readonly='yes' secure='yes' type='pflash' format='raw'>/usr/share/OVMF/OVMF_CODE_4M.secboot.fd</loader>"
    "<nvram template='/usr/share/OVMF/OVMF_VARS_4M.ms.fd'/></os><features><acpi/><apic/><smm state='on'/></features>",
    "devices": "",
}
QUEUES = {
    "name": "queues",
    "vcpus": "2",
    "emulator": EMULATOR,
    "machine": "<os><type arch='x86_64' machine='q35'>hvm</type></os>",
    "devices": "<interface type='network'><source network='default'/><model type='virtio'/><driver queues='2'/>"
    "</interface>",
}


@pytest.fixture(scope="module", autouse=True)
def rebuilt(lab: Lab) -> Iterator[None]:
    run("python3", "-", stdin=REBUILD)
    for emulator, name in ((AARCH64, "arm"), (RISCV64, "riscv")):
        other = REBUILD.replace(repr(EMULATOR), repr(emulator)).replace(repr(REBUILT), f"'{emulator}-2'")
        run("python3", "-", stdin=other)
        run("qemu-img", "create", "-q", "-f", "qcow2", f"{IMAGES}/{name}.qcow2", "16M")
    yield
    for machine in (MICROVM, ARM, RISCV, SECURE, QUEUES):
        client.remove(machine["name"])


@pytest.mark.parametrize(
    ("machine", "other", "expected"),
    [
        pytest.param(MICROVM, REBUILT, ["machine-unversioned"], id="microvm"),
        pytest.param(ARM, f"{AARCH64}-2", [], id="aarch64"),
        pytest.param(RISCV, f"{RISCV64}-2", ["machine-unversioned"], id="riscv64", marks=pytest.mark.thorough),
        pytest.param(SECURE, REBUILT, [], id="secure boot", marks=pytest.mark.thorough),
    ],
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


def test_a_guest_that_has_not_taken_its_queues() -> None:
    """It has nothing to boot from; nobody may ask QEMU 11.1 about its driver, which ends the guest."""
    client.install_qemu("NEXT")
    run("python3", "-", stdin=REBUILD)
    name = QUEUES["name"]
    shell(f"virsh -q define /dev/stdin; virsh -q start {name}", stdin=DOMAIN.format(**QUEUES))
    before = views(name)
    for emulator in (REBUILT, EMULATOR):
        report = client.upgrade(name, "--emulator", emulator)
        assert report["domains"][0]["result"] == "upgraded", report
        assert views(name) == before
    assert client.monitor(name, "query-status")["status"] == "running"


def views(name: str) -> tuple[object, ...]:
    tree = [line for line in virsh("qemu-monitor-command", name, "--hmp", "info qtree").splitlines() if "dev: " in line]
    nodes = [(n["node-name"], n["file"]) for n in client.monitor(name, "query-named-block-nodes", flat=True)]
    cpus = [cpu["cpu-index"] for cpu in client.monitor(name, "query-cpus-fast")]
    return tree, nodes, cpus
