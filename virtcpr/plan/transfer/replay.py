"""The settings that new QEMU needs by QMP: libvirt gave them to old QEMU after its start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from virtcpr.domain.argv import CommandLine
from virtcpr.domain.facts import DomainFacts, QemuFacts
from virtcpr.domain.live import LiveDomain
from virtcpr.domain.status import DisplayPassword

SECRET = frozenset({"password"})
# libvirt's words for watchdog actions that differ from QEMU's (qemuDomainAttachWatchdog, src/qemu/qemu_hotplug.c).
WATCHDOG = {"dump": "pause"}


@dataclass(frozen=True)
class Command:
    """A QMP command for new QEMU, sent before the guest's state arrives."""

    name: str
    arguments: Mapping[str, object]

    @property
    def describe(self) -> str:
        """``set_link name=net0 up=False``; for display, without secrets."""
        shown = ((key, "***" if key in SECRET else value) for key, value in self.arguments.items())
        return " ".join([self.name, *(f"{key}={value}" for key, value in shown)])


def commands(line: CommandLine, facts: DomainFacts) -> Iterator[Command]:
    """All commands in order.  ``line`` is new QEMU's command line."""
    assert facts.qemu is not None, "only a domain that runs is moved"
    yield from links(facts.live)
    yield from limits(facts.qemu)
    yield from actions(line, facts.live)
    yield from passwords(line, facts.display_passwords)


def links(live: LiveDomain) -> Iterator[Command]:
    """Links that are down, and the polling interval of the balloon's statistics."""
    for interface in live.interfaces():
        if interface.link_down:
            yield Command("set_link", {"name": interface.alias, "up": False})
    period = live.balloon_period()
    if period is not None:
        path = f"/machine/peripheral/{period[0]}"
        setting = {"path": path, "property": "guest-stats-polling-interval", "value": period[1]}
        yield Command("qom-set", setting)


def limits(qemu: QemuFacts) -> Iterator[Command]:
    """I/O throttling and write thresholds; libvirt always sets them by QMP, also at the guest's start.

    QEMU accepts both before the guest's state arrives (qmp_block_set_io_throttle, qmp_block_set_write_threshold).
    """
    for drive in qemu.drives:
        if drive.throttle:
            yield Command("block_set_io_throttle", {"id": drive.path, **drive.throttle})
    for node in qemu.nodes:
        if node.threshold:
            yield Command("block-set-write-threshold", {"node-name": node.name, "write-threshold": node.threshold})


def protected(line: CommandLine) -> frozenset[str]:
    """The displays that need a password by QMP, by protocol: without it no viewer can connect."""
    vnc = any(option.properties().get("password") in ("on", True) for option in line.named("vnc"))
    spice = any(option.properties().get("disable-ticketing") not in ("on", True) for option in line.named("spice"))
    return frozenset(kind for kind, wanted in (("vnc", vnc), ("spice", spice)) if wanted)


def passwords(line: CommandLine, known: Mapping[str, DisplayPassword]) -> Iterator[Command]:
    """As libvirt sets them, at the start and for `virsh update-device` (qemuDomainChangeGraphicsPasswords)."""
    for kind in sorted(protected(line) & known.keys()):
        yield Command("set_password", {"protocol": kind, "password": known[kind].word})
        yield Command("expire_password", {"protocol": kind, "time": known[kind].expires})


def actions(line: CommandLine, live: LiveDomain) -> Iterator[Command]:
    """QEMU's action when the guest reboots, or its watchdog expires.

    `virsh set-lifecycle-action` changes only the reboot action in QEMU; libvirt itself handles a guest's end and crash
    (qemuDomainSetLifecycleAction).  The action of an attached watchdog isn't on the command line.
    """
    if live.root.findtext("on_reboot") == "destroy":
        yield Command("set-action", {"reboot": "shutdown"})
    given = [option.value for option in line.named("watchdog-action")]
    action = live.watchdog_action()
    if action is not None and (wanted := WATCHDOG.get(action, action)) not in given:
        yield Command("set-action", {"watchdog": wanted})
