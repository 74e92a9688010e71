"""Compare a domain before the swap and after libvirt has reconnected to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from virtcpr.domain.facts import BlockNode, DomainFacts, Drive, Port
from virtcpr.domain.live import differences


@dataclass(frozen=True)
class Adopted:
    """What libvirt, QEMU and the kernel report about a domain afterwards.

    ``owners`` are the processes that own its vCPU threads.  The rest is as in ``DomainFacts``.
    """

    id: int | None
    state: str
    reason: str
    xml: str
    owners: frozenset[int]
    version: str
    vcpus: frozenset[int]
    iothreads: frozenset[str]
    devices: Mapping[str, str]  # id → driver
    nodes: tuple[BlockNode, ...]
    drives: tuple[Drive, ...]
    ports: Mapping[str, Port]
    outputs: Mapping[str, str]
    agent: bool | None


def verify(before: DomainFacts, after: Adopted, pid: int) -> tuple[str, ...]:
    """Messages about everything that changed, or doesn't belong to new QEMU; empty if all is well."""
    return (*_libvirts(before, after, pid), *_qemus(before, after), *_hosts(before, after))


def _libvirts(before: DomainFacts, after: Adopted, pid: int) -> Iterator[str]:
    if after.id != before.id:
        yield f"the domain's id changed from {before.id} to {after.id}"
    if after.state != before.state:
        yield f"libvirt says that the domain is {after.state} ({after.reason}), it was {before.state}"
    if after.owners != {pid}:
        yield f"libvirt talks to a process other than {pid}"
    changed = differences(before.xml, after.xml, asleep=before.state != "running")
    if changed:
        yield "the live XML changed: " + "; ".join(changed)


def _qemus(before: DomainFacts, after: Adopted) -> Iterator[str]:
    assert before.qemu is not None, "only a domain that ran was moved"
    if after.version != before.emulator.version:
        yield f"QEMU says that it is {after.version}, not {before.emulator.version}"
    yield from _changed("vCPUs", map(str, before.status.vcpus), map(str, after.vcpus))
    yield from _changed("iothreads", before.qemu.iothreads, after.iothreads)
    devices = {name: device.driver for name, device in before.qemu.devices.items()}
    yield from _changed("devices", map(_device, devices.items()), map(_device, after.devices.items()))
    yield from _changed("block nodes", map(_node, before.qemu.nodes), map(_node, after.nodes))
    yield from _changed("drives", map(_drive, before.qemu.drives), map(_drive, after.drives))


def _device(device: tuple[str, str]) -> str:
    name, driver = device
    return f"{name} ({driver})"


def _node(node: BlockNode) -> str:
    below = node.below
    on = [] if below is None else [child for child in (below.data, below.backing) if child]
    return " ".join(
        [node.describe, *(["on", " and ".join(on)] if on else []), *(["read-only"] if node.read_only else [])]
    )


def _drive(drive: Drive) -> str:
    limits = "".join(f" {key}={value}" for key, value in drive.throttle.items() if value)
    return f"{drive.device or drive.path} on {drive.node or 'nothing'}{limits}"


def _changed(what: str, before: Iterator[str] | frozenset[str], after: Iterator[str] | frozenset[str]) -> Iterator[str]:
    old, new = frozenset(before), frozenset(after)
    if old != new:
        changes = [*(f"-{name}" for name in sorted(old - new)), *(f"+{name}" for name in sorted(new - old))]
        yield f"{what} changed: {' '.join(changes)}"


def _hosts(before: DomainFacts, after: Adopted) -> Iterator[str]:
    for tap, port in before.ports.items():
        now = after.ports.get(tap, Port(None, up=False))
        if now.bridge != port.bridge:
            yield f"interface {tap} is a port of {now.bridge or 'no bridge'}, it was one of {port.bridge or 'none'}"
        if port.up and not now.up:
            yield f"interface {tap} is down"
    for what, target in before.outputs.items():
        if after.outputs.get(what) != target:
            yield f"{what} is no longer written to {target}: its log doesn't grow"
    if before.agent and not after.agent:
        yield "the guest agent answered before the swap, but doesn't now"
