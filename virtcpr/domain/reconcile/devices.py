"""Devices that were attached or detached since the guest started."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from virtcpr.domain.argv import CommandLine, Option
from virtcpr.domain.facts import Device, QemuFacts
from virtcpr.domain.reconcile.change import Change

# Settings that QEMU computes itself, or that report a device's current state.
COMPUTED = frozenset(["attached", "busnr", "romsize", "cyls", "heads", "secs"])
# A device's size is its memory's; the sizes of virtio-mem are set by the guest, and are migrated.
OF_MEMORY = frozenset(["size"])
UNSET: tuple[object, ...] = ("", [], None)
MEANT = frozenset(["romfile"])  # an empty value has a meaning: no ROM


def change(line: CommandLine, qemu: QemuFacts) -> Change:
    replaced: dict[Option, Option | None] = {}
    for option in line.named("device"):
        name = option.properties().get("id")
        if isinstance(name, str) and (name not in qemu.devices or qemu.devices[name].attached):
            replaced[option] = None
    return Change(replaced, tuple(option_of(name, qemu.devices[name]) for name in _in_order(qemu)))


def used(line: CommandLine, qemu: QemuFacts, setting: str) -> dict[str, bool]:
    """The names in a setting of devices (``netdev``, ``chardev``) → whether that device was attached since."""
    names: dict[str, bool] = {}
    for option in line.named("device"):
        properties = option.properties()
        device = qemu.devices.get(str(properties.get("id")))
        if setting in properties and ("id" not in properties or (device is not None and not device.attached)):
            names[str(properties[setting])] = False
    attached = (device.settings for device in qemu.devices.values() if device.attached)
    return names | {str(settings[setting]): True for settings in attached if setting in settings}


def option_of(name: str, device: Device) -> Option:
    """``-device`` for an attached device in its current state."""
    settings = {key: _given(key, value) for key, value in device.settings.items() if _is_given(key, value)}
    bus = {} if device.bus is None else {"bus": device.bus}
    properties = {"driver": device.driver, "id": name, **bus, **settings}
    return Option("device", json.dumps(properties, separators=(",", ":")))


def _is_given(key: str, value: object) -> bool:
    if key in COMPUTED or key in OF_MEMORY or key.startswith("x-"):
        return False
    if key == "bootindex" and value == -1:  # no boot order; the property reports no default
        return False
    return key in MEANT or value not in UNSET


def _given(key: str, value: object) -> object:
    """As on a command line: a PCI address as slot and function, a link as the id of its target."""
    if key == "addr" and isinstance(value, int) and value < 1 << 8:
        return f"0x{value >> 3:x}.0x{value & 7:x}"
    if isinstance(value, str) and value.startswith(("/objects/", "/machine/")):
        return value.rpartition("/")[2]
    return value


def _in_order(qemu: QemuFacts) -> list[str]:
    """The attached devices, each after the device whose bus it uses."""
    names = sorted(qemu.attached, key=_natural)
    ordered: list[str] = []
    while names:
        ready = [name for name in names if not _waits(qemu.devices[name], names)]
        ordered += ready or names  # a cycle is impossible
        names = [name for name in names if name not in ordered]
    return ordered


def _waits(device: Device, names: Iterable[str]) -> bool:
    """Whether one of these devices has the device's bus: a bus is named DEVICE or DEVICE.NUMBER."""
    return any(device.bus == name or (device.bus or "").startswith(f"{name}.") for name in names)


def _natural(name: str) -> tuple[str, int]:
    """vcpu2 before vcpu10."""
    match = re.fullmatch(r"(.*?)(\d*)", name)
    assert match is not None  # it matches anything
    return match.group(1), int(match.group(2) or -1)
