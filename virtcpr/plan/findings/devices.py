"""Devices of the domain's XML that hold what only one process can hold, or what no other can know."""

from __future__ import annotations

from collections.abc import Iterator

from virtcpr.plan.findings.rule import Hit, Subject, Test
from virtcpr.plan.replay import wants_password

CARRIED_INTERFACES = frozenset({"network", "bridge", "ethernet", "direct", "user"})


def has(xpath: str) -> Test:
    """The XML has an element that this XPath, from ``<domain>`` on, finds."""

    def test(subject: Subject) -> Iterator[Hit]:
        if subject.live.matches(xpath):
            yield {}

    return test


def interface_kind(subject: Subject) -> Iterator[Hit]:
    for interface in subject.live.interfaces():
        passt = interface.backend == "passt"
        if interface.kind not in CARRIED_INTERFACES or passt:
            kind = f"'{interface.kind}'" + (" (passt)" if passt else "")
            yield {"interface": interface.alias or interface.mac or "", "kind": kind, "type": interface.kind}


def user_interface(subject: Subject) -> Iterator[Hit]:
    for interface in subject.live.interfaces():
        if interface.kind == "user" and interface.backend != "passt":
            yield {"interface": interface.alias or interface.mac or ""}


def lost_boot_roms(subject: Subject) -> Iterator[Hit]:
    """Now, or from the next start on."""
    if any(document.lost_boot_roms() for document in (subject.live, subject.stored) if document is not None):
        yield {}


def clients(subject: Subject) -> Iterator[Hit]:
    """Whoever is connected to a socket of QEMU's; not libvirt, which comes again."""
    agents = subject.live.agents()
    for chardev in subject.qemu.chardevs:
        device = chardev.label.removeprefix("char")
        if chardev.label == "charmonitor" or device in agents:
            continue
        if ",server" in chardev.filename and not chardev.filename.startswith("disconnected:"):
            yield {"device": device}


def vnc_password(subject: Subject) -> Iterator[Hit]:
    """One that somebody else than libvirt told QEMU, or that libvirt has forgotten: QEMU doesn't say it again."""
    if subject.line and wants_password(subject.line) and subject.facts.display_password is None:
        yield {}
