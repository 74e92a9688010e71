"""Facts of a real domain, taken in the lab with the product's own probe: q35, qcow2 and SATA disks, CD-ROM, tap, pty,
guest agent, VNC, USB tablet, balloon, rng, watchdog; QEMU 10.0.13 after several swaps."""

from __future__ import annotations

import json
from typing import Any

from tests.paths import DATA
from virtcpr.domain.argv import CommandLine
from virtcpr.domain.facts import (
    BlockNode,
    Chardev,
    Device,
    DomainFacts,
    Emulator,
    FdsetFd,
    HostFacts,
    Memdev,
    ProcessFacts,
    QemuFacts,
)

RECORDED = json.loads((DATA / "office.json").read_text())


def process() -> ProcessFacts:
    raw: dict[str, Any] = dict(RECORDED["process"])
    raw["argv"] = tuple(raw["argv"])
    raw["taps"] = {name: tuple(fds) for name, fds in raw["taps"].items()}
    raw["inet_listeners"] = tuple(raw["inet_listeners"])
    return ProcessFacts(**raw)


def line() -> CommandLine:
    return CommandLine.parse(process().argv)


def qemu() -> QemuFacts:
    raw: dict[str, Any] = dict(RECORDED["qemu"])
    lists = {"chardevs": Chardev, "fdsets": FdsetFd, "nodes": BlockNode, "memdevs": Memdev}
    for name, kind in lists.items():
        raw[name] = tuple(kind(**item) for item in raw[name])
    drivers = {str(d["id"]): str(d["driver"]) for d in (o.properties() for o in line().named("device"))}
    raw["devices"] = {name: Device(drivers[name]) for name in raw.pop("peripherals")}
    raw["settings"] = {}
    for name in ("iothreads", "capabilities"):
        raw[name] = frozenset(raw[name])
    for name in ("version_tuple", "jobs", "blocked_reasons"):
        raw[name] = tuple(raw[name])
    return QemuFacts(**raw)


def domain() -> DomainFacts:
    raw: dict[str, Any] = dict(RECORDED)
    known: dict[str, Any] = {**raw["emulator"], "build": "another"}
    for name in ("modes", "machines"):
        known[name] = frozenset(known[name])
    known["number"] = tuple(known["number"])
    host = HostFacts(8 << 20, {2048: 0})
    parts = {"emulator": Emulator(**known), "process": process(), "qemu": qemu(), "host": host}
    return DomainFacts(**{**raw, "persistent_xml": raw["xml"], **parts})
