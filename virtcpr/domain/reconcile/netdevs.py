"""Back ends of network interfaces."""

from __future__ import annotations

import json

from lxml import etree

from virtcpr.domain.argv import CommandLine, Option
from virtcpr.domain.facts import QemuFacts
from virtcpr.domain.reconcile import devices
from virtcpr.domain.reconcile.change import Change
from virtcpr.domain.xml import parse

TAPS = frozenset({"network", "bridge", "ethernet", "direct"})


def change(line: CommandLine, qemu: QemuFacts, status_xml: str) -> Change:
    """QEMU doesn't list network back ends.  If no device names one, it is gone (libvirt removes both); for an attached
    device it is rebuilt from libvirt's record (qemuBuildHostNetProps, src/qemu/qemu_command.c)."""
    used = devices.used(line, qemu, "netdev")
    replaced: dict[Option, Option | None] = {
        option: None for option in line.named("netdev") if used.get(str(option.properties().get("id"))) is not False
    }
    new = sorted(name for name, attached in used.items() if attached)
    interfaces = _interfaces(status_xml) if new else {}
    made = {name: _made(name, interfaces.get(name.removeprefix("host"))) for name in new}
    refused = tuple(
        f"network interface {name.removeprefix('host')} was added since the guest started, and its back end can't be "
        "rebuilt"
        for name, option in made.items()
        if option is None
    )
    return Change(replaced, tuple(option for option in made.values() if option is not None), refused)


def _interfaces(status_xml: str) -> dict[str, etree._Element]:
    nodes = parse(status_xml).iterfind("domain/devices/interface")
    return {alias.get("name", ""): node for node in nodes if (alias := node.find("alias")) is not None}


def _made(name: str, node: etree._Element | None) -> Option | None:
    if node is None or node.find("backend[@type='passt']") is not None:
        return None
    actual = node.find("actual")  # what libvirt's network made of it
    kind = (node if actual is None else actual).get("type", "")
    if kind == "user":
        return _option({"type": "user", **_addresses(node), "id": name})
    if kind not in TAPS:
        return None
    driver = node.find("driver")
    queues = int(driver.get("queues", "1")) if driver is not None else 1
    fds = {"fd": "0"} if queues < 2 else {"fds": ":".join(["0"] * queues)}
    bounded = node.findtext("tune/sndbuf")
    return _option({"type": "tap", **fds, "id": name, **({"sndbuf": bounded} if bounded else {})})


def _addresses(node: etree._Element) -> dict[str, str]:
    """The addresses of QEMU's user-mode network."""
    addresses = {}
    for ip in node.iterfind("ip"):
        address, prefix = ip.get("address", ""), ip.get("prefix")
        if ip.get("family") == "ipv6":
            addresses["ipv6-prefix"] = address
            addresses |= {"ipv6-prefixlen": prefix} if prefix else {}
        else:
            addresses["net"] = f"{address}/{prefix}" if prefix else address
    return addresses


def _option(properties: dict[str, str]) -> Option:
    return Option("netdev", json.dumps(properties, separators=(",", ":")))
