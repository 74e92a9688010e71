"""A domain after its adoption: everything that isn't as it was is said, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.support import facts
from virtcpr.domain.facts import Below, BlockNode, Drive, Port
from virtcpr.plan.verification import Adopted, verify

PID = 4711
BEFORE = replace(
    facts.domain(),
    ports={"vnet0": Port("virbr0", up=True)},
    outputs={"QEMU's own output": "pipe:[1]", "serial0-log of set 0": "pipe:[2]"},
    agent=True,
)
AFTER = Adopted(
    id=BEFORE.id,
    state=BEFORE.state,
    reason=BEFORE.reason,
    xml=BEFORE.xml.replace("/dev/pts/1", "/dev/pts/7"),
    owners=frozenset({PID}),
    version=BEFORE.emulator.version,
    vcpus=frozenset({0, 1}),
    iothreads=frozenset({"iothread1"}),
    devices={name: device.driver for name, device in facts.qemu().devices.items()},
    nodes=facts.qemu().nodes,
    drives=facts.qemu().drives,
    ports=BEFORE.ports,
    outputs=BEFORE.outputs,
    agent=True,
)
NODE = facts.qemu().nodes[0]

WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"id": 9}, "the domain's id changed from 1 to 9"),
    ({"state": "paused", "reason": "I/O error"}, "libvirt says that the domain is paused (I/O error), it was running"),
    ({"owners": frozenset({1})}, "libvirt talks to a process other than 4711"),
    (
        {"xml": AFTER.xml.replace("<on_reboot>restart<", "<on_reboot>destroy<")},
        "the live XML changed: - <on_reboot>restart</on_reboot>; + <on_reboot>destroy</on_reboot>",
    ),
    ({"version": "9.9.9"}, f"QEMU says that it is 9.9.9, not {BEFORE.emulator.version}"),
    ({"vcpus": frozenset({0})}, "vCPUs changed: -1"),
    ({"iothreads": frozenset({"iothread1", "stray"})}, "iothreads changed: +stray"),
    (
        {"devices": {**AFTER.devices, "net0": "e1000e"}},
        "devices changed: -net0 (virtio-net-pci) +net0 (e1000e)",
    ),
    (
        {"nodes": (replace(NODE, file="/other.qcow2"), *facts.qemu().nodes[1:])},
        f"block nodes changed: -{NODE.name} ({NODE.driver}, {NODE.file}) read-only "
        f"+{NODE.name} ({NODE.driver}, /other.qcow2) read-only",
    ),
    (
        {"nodes": (replace(NODE, read_only=False, below=Below("a", "b")), *facts.qemu().nodes[1:])},
        f"block nodes changed: -{NODE.name} ({NODE.driver}, {NODE.file}) read-only "
        f"+{NODE.name} ({NODE.driver}, {NODE.file}) on a and b",
    ),
    (
        {"drives": (Drive("/machine/peripheral/virtio-disk0/virtio-backend", "n", {"bps": 0, "iops": 9}),)},
        "drives changed: +virtio-disk0 on n iops=9",
    ),
    (
        {"nodes": (*facts.qemu().nodes, BlockNode("more", 'json:{"driver": "raw"}', "raw"))},
        "block nodes changed: +more (raw)",
    ),
    (
        {"ports": {"vnet0": Port("virbr1", up=True)}},
        "interface vnet0 is a port of virbr1, it was one of virbr0",
    ),
    ({"ports": {"vnet0": Port(None, up=True)}}, "interface vnet0 is a port of no bridge, it was one of virbr0"),
    ({"ports": {"vnet0": Port("virbr0", up=False)}}, "interface vnet0 is down"),
    (
        {"outputs": {**BEFORE.outputs, "serial0-log of set 0": "pipe:[3]"}},
        "serial0-log of set 0 is no longer written to pipe:[2]: its log doesn't grow",
    ),
    ({"agent": False}, "the guest agent answered before the swap, but doesn't now"),
)


def test_nothing_is_said_where_all_is_well() -> None:
    """New pseudo-terminals are no change."""
    assert verify(BEFORE, AFTER, PID) == ()


@pytest.mark.parametrize(("changes", "text"), WRONG, ids=[text[:30] for _, text in WRONG])
def test_everything_else_is_said(changes: dict[str, Any], text: str) -> None:
    assert verify(BEFORE, replace(AFTER, **changes), PID) == (text,)


def test_what_libvirt_forgets_of_an_ejected_medium_is_no_change() -> None:
    """Until it is started again it remembers the number of the medium, and no driver."""
    source = next(line for line in BEFORE.xml.splitlines() if "d1.iso" in line)
    assert "index=" in source
    driver = "<driver name='qemu'/>"
    kind = "<driver name='qemu' type='raw'/>"
    disks = BEFORE.xml.partition("<disk type='file' device='cdrom'>")
    assert kind in disks[2]
    before = disks[0] + disks[1] + disks[2].replace(source, "<source index='1'/>").replace(kind, "", 1)
    after = disks[0] + disks[1] + disks[2].replace(source, "").replace(kind, driver, 1)
    assert verify(replace(BEFORE, xml=before), replace(AFTER, xml=after), PID) == ()
    assert verify(BEFORE, replace(AFTER, xml=after), PID) != ()


def test_an_interface_that_is_gone_is_said_in_both_ways() -> None:
    assert verify(BEFORE, replace(AFTER, ports={}), PID) == (
        "interface vnet0 is a port of no bridge, it was one of virbr0",
        "interface vnet0 is down",
    )


def test_an_agent_that_was_not_there_need_not_be() -> None:
    assert verify(replace(BEFORE, agent=None), replace(AFTER, agent=None), PID) == ()
    assert verify(replace(BEFORE, agent=False), replace(AFTER, agent=None), PID) == ()
