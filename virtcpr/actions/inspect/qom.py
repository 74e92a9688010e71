"""QEMU's devices and objects that its command line doesn't describe.

``qom-get`` returns a property as ``-device`` and ``-object`` take it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from virtcpr.domain import qmp
from virtcpr.domain.argv import CommandLine
from virtcpr.domain.facts import Device, Drive
from virtcpr.errors import QmpRefused

Ask = Callable[..., object]
Settings = dict[str, object]

PERIPHERAL = "/machine/peripheral"
RUNTIME = ("iothread", "throttle-group")  # kinds of objects whose settings libvirt changes in a running guest


def devices(ask: Ask, line: CommandLine | None) -> dict[str, Device]:
    """Every device that has an id; ``line`` is the command line, None if it can't be parsed.

    ``hotplugged`` distinguishes an attached device from one with the same id on the command line (hw/core/qdev.c).  New
    QEMU gets both on its command line, and starts them as cold-plugged devices.
    """
    known = frozenset() if line is None else line.ids("device")
    kinds = qmp.children(ask("qom-list", {"path": PERIPHERAL}))
    attached = {
        name for name in kinds if name not in known or _get(ask, f"{PERIPHERAL}/{name}", "hotplugged") is not False
    }
    if line is None:
        return {name: Device(kind, name in attached) for name, kind in kinds.items()}
    cpus = _cpus(ask) if any("-cpu" in kinds[name] for name in attached) else {}
    defaults = {kind: _defaults(ask, kind) for kind in {kinds[name] for name in attached - cpus.keys()}}
    plugged = {name: _attached(ask, name, kinds[name], defaults[kinds[name]]) for name in attached - cpus.keys()}
    plugged |= {name: cpu for name, cpu in cpus.items() if name in attached}
    return {name: Device(kind) for name, kind in kinds.items()} | plugged


def _cpus(ask: Ask) -> dict[str, Device]:
    """vCPUs that have an id, with their topology as ``-device`` needs it."""
    cpus: dict[str, Device] = {}
    for cpu in map(qmp.obj, qmp.items(ask("query-hotpluggable-cpus"))):
        path = qmp.text(cpu.get("qom-path"))
        if path.startswith(f"{PERIPHERAL}/"):
            name = path.removeprefix(f"{PERIPHERAL}/")
            cpus[name] = Device(qmp.text(cpu["type"]), attached=True, settings=qmp.obj(cpu["props"]))
    return cpus


def _defaults(ask: Ask, kind: str) -> Settings:
    """A driver's properties with their defaults, None if there is no default.  Properties that only the machine type
    sets (``x-``) are left out."""
    listed = map(qmp.obj, qmp.items(ask("device-list-properties", {"typename": kind})))
    return {
        qmp.text(prop["name"]): prop.get("default-value")
        for prop in listed
        if not (qmp.text(prop["type"]).startswith("child<") or qmp.text(prop["name"]).startswith("x-"))
    }


def _attached(ask: Ask, name: str, kind: str, defaults: Settings) -> Device:
    path = f"{PERIPHERAL}/{name}"
    bus = qmp.text(_get(ask, path, "parent_bus")).rpartition("/")[2]
    settings = {}
    for setting, default in defaults.items():
        value = _get(ask, path, setting)
        if value is not None and value != default:
            settings[setting] = value
    return Device(kind, attached=True, bus=bus or None, settings=settings)


def _get(ask: Ask, path: str, name: str) -> object:
    """None if the property can't be read, or doesn't exist."""
    try:
        return ask("qom-get", {"path": path, "property": name})
    except QmpRefused:
        return None


def drives(ask: Ask, listed: tuple[Drive, ...], known: Mapping[str, Device]) -> tuple[Drive, ...]:
    """The drives; floppy drives with their type."""
    return tuple(
        replace(drive, floppy=qmp.text(_get(ask, f"{PERIPHERAL}/{drive.device}", "drive-type")) or None)
        if drive.device in known and known[drive.device].driver == "floppy"
        else drive
        for drive in listed
    )


def objects(
    ask: Ask, line: CommandLine | None, kinds: Mapping[str, str], plugged: Mapping[str, Device]
) -> dict[str, Settings]:
    """Settings of objects (id → QOM type, ``kinds``) whose settings on the command line may be outdated or missing."""
    known = frozenset() if line is None else line.ids("object")
    used = {
        str(value).removeprefix("/objects/")
        for device in plugged.values()
        for value in device.settings.values()
        if str(value).startswith("/objects/")
    }
    return {
        name: _object(ask, f"/objects/{name}")
        for name, kind in kinds.items()
        if (name not in known or name in used or kind in RUNTIME) and not kind.startswith("monitor-")
    }


def _object(ask: Ask, path: str) -> Settings:
    listed = map(qmp.obj, qmp.items(ask("qom-list", {"path": path})))
    names = [qmp.text(prop["name"]) for prop in listed if not qmp.text(prop["type"]).startswith("child<")]
    return {name: value for name in names if (value := _get(ask, path, name)) is not None}
