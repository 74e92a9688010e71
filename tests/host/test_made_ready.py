"""Mode live on a real host's terms: KVM, AppArmor, huge pages of one NUMA node; the guest was never prepared."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from tests.host.support import confinement
from tests.host.support.guests import KVM
from tests.host.support.machine import Host
from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.client import shell, virsh
from tests.lab.support.reboots import define

HUGE = replace(KVM, name="huge", number=34, memory_mib=192, ram_mib=16, hugepages=True, prepared=False)
NODE = "/sys/devices/system/node/node1/hugepages/hugepages-2048kB"
LOCAL = "/etc/apparmor.d/local/abstractions"
STRICT = '<numatune><memory mode="strict" nodeset="1" /></numatune><memoryBacking>'
PAGES = HUGE.memory_mib // 2


def policies(process: int) -> list[str]:
    """Of the guest's RAM, in a file of libvirt's before and in a memfd afterwards."""
    lines = shell(f"grep -E 'huge' /proc/{process}/numa_maps").splitlines()
    return sorted({line.split()[1] for line in lines})


def picture(name: str) -> list[str]:
    return [line for line in confinement.picture(name) if not line.startswith("RAM: ")]


def test_a_guest_in_huge_pages_of_a_node_is_made_ready(guests: Guests, host: Host) -> None:
    shell(f"echo {2 * PAGES} > {NODE}/nr_hugepages; [ $(cat {NODE}/nr_hugepages) = {2 * PAGES} ]")
    define(HUGE, lambda xml: xml.replace("<memoryBacking>", STRICT))
    guests.adopt(HUGE)
    virsh("start", HUGE.name)
    guests.watch(HUGE)
    process, before, denials = client.pid(HUGE.name), picture(HUGE.name), confinement.denials()
    assert policies(process) == ["bind:1"]
    assert f"HugetlbPages: {HUGE.memory_mib * 1024} KiB" in before
    client.install_qemu("NEW")
    guests.witness.mark()

    refused = json.loads(client.virtcpr("prepare", "--live", "--yes", HUGE.name, "-o", "json").out)
    assert [finding["code"] for finding in refused["domains"][0]["findings"]] == ["hugepages-apparmor"], refused
    checked = json.loads(client.virtcpr("check", "--mode", "live", HUGE.name, "-o", "json").out)
    (confined,) = [one for one in checked["domains"][0]["findings"] if one["code"] == "hugepages-apparmor"]
    line, load = re.findall("'([^']*)'", confined["remedy"])
    shell(f"mkdir -p {LOCAL}; echo '{line}' >>{LOCAL}/libvirt-qemu; {load}")

    prepared = json.loads(client.virtcpr("prepare", "--live", "--yes", HUGE.name, "-o", "json", timeout=600).out)

    (domain,) = prepared["moves"]["domains"]
    assert (domain["result"], domain["mode"]) == ("upgraded", "live"), prepared
    guests.assert_well(HUGE)
    assert client.pid(HUGE.name) != process
    assert client.qemu_version(HUGE.name) == client.upstream(client.versions()["NEW"])
    assert picture(HUGE.name) == before
    assert policies(client.pid(HUGE.name)) == ["bind:1"]
    assert confinement.denials() == denials
    assert shell(f"cat {NODE}/free_hugepages").strip() == str(PAGES), "the first copy was given back"

    client.install_qemu("OLD")
    report = client.upgrade(HUGE.name, "--mode", "transfer")

    assert [d["result"] for d in report["domains"]] == ["upgraded"], report
    guests.assert_well(HUGE)
    assert policies(client.pid(HUGE.name)) == ["bind:1"]
    assert confinement.denials() == denials

    virsh("destroy", HUGE.name)
    virsh("start", HUGE.name)
    guests.watch(HUGE)
    assert client.upgrade(HUGE.name, "--force")["domains"][0]["result"] == "upgraded", "it starts prepared, too"
    guests.assert_well(HUGE)
