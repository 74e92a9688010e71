"""Domains for mode reboot, moved by it, and what it must not leave behind."""

from __future__ import annotations

from collections.abc import Callable

from tests.lab.support import client
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import Shape, domain_xml, image_commands

RAM = "/var/lib/libvirt/qemu/ram"
LEFTOVER = "'-incoming'"


def define(shape: Shape, edit: Callable[[str], str] = str) -> None:
    for command in image_commands(shape):
        run(*command)
    shell("virsh -q define /dev/stdin", stdin=edit(domain_xml(shape)))


def reboot(*arguments: str) -> list[dict[str, object]]:
    """``upgrade --mode reboot``: the JSON's domains."""
    report = client.upgrade("--mode", "reboot", *arguments)
    assert report["exit_code"] == 0, report
    domains: list[dict[str, object]] = report["domains"]
    assert {domain["result"] for domain in domains} == {"upgraded"}, report
    assert report["blackout_ms"] is not None
    return domains


def nothing_left(*names: str) -> None:
    """No trace of the passage, neither in libvirt's XML nor in a file."""
    for name in names:
        assert LEFTOVER not in virsh("dumpxml", name)
        assert "custom-argv" not in run("cat", f"/run/libvirt/qemu/{name}.xml").out or "aux-ram" in virsh(
            "dumpxml", name
        )
        capabilities = {c["capability"]: c["state"] for c in client.monitor(name, "query-migrate-capabilities")}
        assert not capabilities["x-ignore-shared"]
        assert capabilities["events"]
        assert client.monitor(name, "query-migrate-parameters")["mode"] == "normal"
    files = "/var/lib/virtcpr/saved /run/virtcpr/starting /run/virtcpr/leftovers"
    assert shell(f"find {files} -mindepth 1; ls -d {RAM}/virtcpr-* 2>/dev/null || :") == ""
