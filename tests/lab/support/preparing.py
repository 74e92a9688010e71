"""Domains defined, prepared and looked at."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.lab.support import client
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import Shape, domain_xml, image_commands

Edit = Callable[[str], str]


def backing(text: str) -> Edit:
    return lambda xml: xml.replace("<os>", f"<memoryBacking>{text}</memoryBacking><os>", 1)


def numa(memory: str = "") -> Edit:
    cells = "<cpu><numa><cell id='0' cpus='0' memory='256' unit='MiB' memAccess='private'/></numa></cpu>"
    room = "<maxMemory slots='4' unit='MiB'>1024</maxMemory><memory unit"
    return lambda xml: (
        xml.replace("<memory unit", room, 1)
        .replace("<features>", f"{cells}<features>")
        .replace("</devices>", f"{memory}</devices>")
    )


def define(one: Shape, edit: Edit) -> str:
    """Its images and its persistent XML; what libvirt made of that."""
    for command in image_commands(one):
        run(*command)
    shell("virsh -q define /dev/stdin", stdin=edit(domain_xml(one)))
    return stored(one.name)


def stored(name: str) -> str:
    return virsh("dumpxml", "--inactive", "--security-info", name)


def prepare(*arguments: str, code: int = 0) -> Any:
    done = client.virtcpr("prepare", "-o", "json", "--yes", *arguments)
    assert done.code == code, done
    return json.loads(done.out)["domains"]


def shares_everything(name: str) -> None:
    """By QEMU's own word."""
    memdevs = client.monitor(name, "query-memdev")
    assert memdevs
    assert all(memdev["share"] for memdev in memdevs), memdevs
    assert client.monitor(name, "qom-get", path="/machine", property="aux-ram-share") is True


def arguments(*values: str) -> Edit:
    words = "".join(f"<qemu:arg value='{value}'/>" for value in values)
    more = f"<qemu:commandline>{words}<qemu:env name='VIRTCPR' value='1'/></qemu:commandline>"
    return lambda xml: xml.replace("</domain>", f"{more}</domain>")
