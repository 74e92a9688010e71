"""Devices of the domain's XML with a resource or a state that can't be handed over."""

from __future__ import annotations

import re
from collections.abc import Iterator

from virtcpr.plan.findings.rule import Hit, Subject, Test
from virtcpr.plan.transfer.replay import protected

MANY_FILES, MS_PER_FILE = 2000, 0.025  # measured in the lab: 20 to 25 µs a file, on two busy cores
LIBVIRTS = "/var/lib/libvirt/qemu/"  # where it puts a display's socket if the XML names none
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
        if interface.kind not in CARRIED_INTERFACES or (passt and interface.kind != "user"):
            kind = f"'{interface.kind}'" + (" (passt)" if passt else "")
            yield {"interface": interface.alias or interface.mac or "", "kind": kind, "type": interface.kind}


def user_interface(subject: Subject) -> Iterator[Hit]:
    for interface in subject.live.interfaces():
        if interface.kind == "user":
            network = "passt" if interface.backend == "passt" else "QEMU's user-mode network"
            yield {"interface": interface.alias or interface.mac or "", "network": network}


def staying_boot_roms(subject: Subject) -> Iterator[Hit]:
    """Until now QEMU made nothing of them: only with aux-ram-share it does."""
    models = subject.live.boot_roms()
    if models and not subject.qemu.aux_ram_share:
        yield {"models": ", ".join(sorted(models))}


def left_boot_roms(subject: Subject) -> Iterator[Hit]:
    """It was prepared since it was started: made ready by mode live, or by an earlier version of virtcpr."""
    models = subject.live.boot_roms()
    if models and subject.qemu.aux_ram_share and subject.stored is not None and not subject.stored.boot_roms():
        yield {"models": ", ".join(sorted(models))}


def lost_boot_roms(subject: Subject) -> Iterator[Hit]:
    """Now, or after the next start."""
    if any(document.lost_boot_roms() for document in (subject.live, subject.stored) if document is not None):
        yield {}


def helper(what: str, device: str) -> Test:
    """A process of this kind can't be had twice; without such a ``device`` (an XPath) another finding says more."""

    def test(subject: Subject) -> Iterator[Hit]:
        problems = [one.problem for one in subject.process.helpers if one.what == what and one.problem]
        if problems and subject.live.matches(device):
            yield {"problem": "; ".join(problems)}

    return test


def known_files(subject: Subject) -> Iterator[Hit]:
    files = sum(one.files for one in subject.process.helpers)
    if files > MANY_FILES:
        yield {"files": str(files), "ms": f"{files * MS_PER_FILE:.0f}"}


def clients(subject: Subject) -> Iterator[Hit]:
    """Clients of QEMU's sockets; not libvirt, which reconnects."""
    agents = subject.live.agents()
    for chardev in subject.qemu.chardevs:
        device = chardev.label.removeprefix("char")
        if chardev.label == "charmonitor" or device in agents:
            continue
        if ",server" in chardev.filename and not chardev.filename.startswith("disconnected:"):
            yield {"device": device}


def vdagent(subject: Subject) -> Iterator[Hit]:
    """It has a state from QEMU 10.2 on (ui/vdagent.c); of a running guest, QEMU itself says whether it can be moved."""
    version = [int(part) for part in re.findall(r"\d+", subject.facts.emulator.version)[:2]]
    if subject.live.matches("devices/*[@type='qemu-vdagent']") and (not version or version < [10, 2]):
        yield {}


def invtsc(subject: Subject) -> Iterator[Hit]:
    """Why the next boot will have it, under KVM; of a running guest, QEMU itself says so."""
    live = subject.live
    if not live.matches("self::domain[@type='kvm'][not(clock/timer[@name='tsc']/@frequency)]"):
        return
    if live.matches("cpu/feature[@name='invtsc'][@policy='require' or @policy='force']"):
        yield {"why": "<feature name='invtsc'>"}
    if live.matches("cpu[@mode='host-passthrough' or @mode='maximum'][@migratable='off']"):
        yield {"why": "migratable='off'"}
    for argument in live.cpu_arguments():
        given = argument.properties()
        on = "+invtsc" in given or given.get("invtsc") in ("on", "true", "yes", "y")
        if on and not {"tsc-frequency", "tsc-freq"} & given.keys():
            yield {"why": f"-cpu {argument.value}"}


def spice(subject: Subject) -> Iterator[Hit]:
    """What of a SPICE display mode transfer was never run with."""
    for node in subject.live.all("devices/graphics[@type='spice']"):
        sockets = [listen.get("socket", LIBVIRTS) for listen in node.findall("listen[@type='socket']")]
        kinds = {
            "with OpenGL": node.find("gl[@enable='yes']") is not None,
            "on a unix socket in a place of its own": not all(path.startswith(LIBVIRTS) for path in sockets),
        }
        for why, found in kinds.items():
            if found:
                yield {"why": why}


def password_of(kind: str) -> Test:
    """The display of this kind has a password that libvirt didn't set or no longer knows; QEMU doesn't reveal it."""

    def test(subject: Subject) -> Iterator[Hit]:
        if subject.line and kind in protected(subject.line) - subject.facts.display_passwords.keys():
            yield {}

    return test
