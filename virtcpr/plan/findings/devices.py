"""Devices of the domain's XML with a resource or a state that can't be handed over."""

from __future__ import annotations

from collections.abc import Iterator

from virtcpr.plan.findings.rule import Hit, Subject, Test
from virtcpr.plan.replay import wants_password

CARRIED_INTERFACES = frozenset({"network", "bridge", "ethernet", "direct", "user"})


def has(xpath: str) -> Test:
    """The XML has an element that matches this XPath, relative to ``<domain>``."""

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
    """Now, or after the next start."""
    if any(document.lost_boot_roms() for document in (subject.live, subject.stored) if document is not None):
        yield {}


def clients(subject: Subject) -> Iterator[Hit]:
    """Clients of QEMU's sockets; not libvirt, which reconnects."""
    agents = subject.live.agents()
    for chardev in subject.qemu.chardevs:
        device = chardev.label.removeprefix("char")
        if chardev.label == "charmonitor" or device in agents:
            continue
        if ",server" in chardev.filename and not chardev.filename.startswith("disconnected:"):
            yield {"device": device}


def vnc_password(subject: Subject) -> Iterator[Hit]:
    """A password that libvirt didn't set or no longer knows; QEMU doesn't reveal it."""
    if subject.line and wants_password(subject.line) and subject.facts.display_password is None:
        yield {}
