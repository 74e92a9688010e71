"""`prepare --mode reboot` on real libvirt: RAM is in a file that has a name, libvirt's own or a device's.

The lab has no DAX device: a plain file stands in for it.  What a device does otherwise was never run: its alignment,
its node in QEMU's /dev, and its size, which it has by itself.  Of a plain file that is empty QEMU makes one of RAM's
size; one that has a size, like a device, may be larger than RAM, and not smaller.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import SMALL
from tests.lab.support.machine import Lab
from tests.lab.support.preparing import Edit, backing, define, numa, prepare, shares_everything, stored
from tests.paths import ROOT

UNPREPARED = replace(SMALL, prepared=False)
FILED, ON_DEVICE = replace(UNPREPARED, name="filed", number=60), replace(UNPREPARED, name="ondevice", number=61)
OTHER = replace(UNPREPARED, name="second", number=62)  # never started
REBOOT = ("--mode", "reboot")
DAX = (*REBOOT, "--template", "reboot-dax")
TEMPLATE = ROOT / "xml-templates/reboot-dax.xml"
OVERRIDE = "/etc/virtcpr/xml-templates/reboot-dax.xml"
STAND_IN = "/var/lib/dax0.0"
MIB = 1024 * 1024
STAND_IN_MIB = 320


def mapped(name: str) -> set[str]:
    """The files that QEMU has mapped shared, to write to."""
    lines = [line.split(None, 5) for line in run("cat", f"/proc/{client.pid(name)}/maps").out.splitlines()]
    return {line[5] for line in lines if len(line) == 6 and line[1] == "rw-s"}


def memdev(name: str, of: str) -> Any:
    (found,) = [one for one in client.monitor(name, "query-memdev") if one["id"] == of]
    return found


def arguments(name: str) -> list[str]:
    return run("cat", f"/proc/{client.pid(name)}/cmdline").out.split("\0")


def codes(done: Any) -> list[str]:
    return [one["code"] for one in done["findings"]]


def test_in_a_file_of_libvirt_s(guests: Guests) -> None:
    """Of a domain that is ready for the mode transfer, too: it stays so."""
    guests.adopt(FILED)
    before = define(FILED, str)
    prepare(FILED.name)

    (done,) = prepare(*REBOOT, FILED.name)

    assert done["changes"] == ["memoryBacking/source: type 'memfd' → 'file'"]
    assert [prepare(*mode, FILED.name)[0]["result"] for mode in (REBOOT, ())] == ["unchanged"] * 2
    virsh("start", FILED.name)
    shares_everything(FILED.name)
    (path,) = [one for one in mapped(FILED.name) if one.startswith("/var/lib/libvirt/qemu/ram/")]
    assert run("stat", "-c", "%F %s", path).out.split() == ["regular", "file", str(256 * MIB)]
    guests.watch(FILED)
    guests.assert_well(FILED)
    virsh("destroy", FILED.name)
    assert prepare("--undo", FILED.name)[0]["result"] == "restored"
    assert stored(FILED.name) == before


@pytest.fixture
def stand_in(lab: Lab) -> Iterator[None]:
    """A file in place of a device, and the template that names it."""
    shell(f"truncate -s {STAND_IN_MIB}M {STAND_IN}; chown libvirt-qemu: {STAND_IN}; chmod 600 {STAND_IN}")
    shell(f"mkdir -p {OVERRIDE.rpartition('/')[0]}; cat > {OVERRIDE}", stdin=TEMPLATE.read_text().replace(
        "mem-path=/dev/dax0.0", f"mem-path={STAND_IN}"
    ))  # fmt: skip
    yield
    client.remove(OTHER.name)
    shell(f"rm -f {STAND_IN} {OVERRIDE}")


@pytest.mark.usefixtures("stand_in")
@pytest.mark.thorough
def test_on_a_device_for_which_a_file_stands_in(guests: Guests) -> None:
    guests.adopt(ON_DEVICE)
    odd = "<memory unit='KiB'>261900</memory>"  # libvirt gives QEMU the next MiB
    before = define(ON_DEVICE, lambda xml: xml.replace('<memory unit="MiB">256</memory>', odd))

    (done,) = prepare(*DAX, ON_DEVICE.name)

    assert done["result"] == "prepared"
    assert prepare(*DAX, ON_DEVICE.name)[0]["result"] == "unchanged"
    virsh("start", ON_DEVICE.name)
    words = arguments(ON_DEVICE.name)
    assert words[words.index("-m") + 1] == "size=262144k"
    assert f"memory-backend-file,id=ram0,size={256 * MIB},mem-path={STAND_IN},align=2M,share=on" in words
    ram = memdev(ON_DEVICE.name, "ram0")
    assert (ram["size"], ram["share"]) == (256 * MIB, True)
    assert STAND_IN in mapped(ON_DEVICE.name)
    guests.watch(ON_DEVICE)
    guests.assert_well(ON_DEVICE)
    blocks, size = map(int, run("stat", "-c", "%b %s", STAND_IN).out.split())
    assert blocks * 512 > ON_DEVICE.ram_mib * MIB, "the guest wrote that much, and it is in the file"
    assert size == STAND_IN_MIB * MIB
    belongs_to_one_guest()
    follows_the_domain(before)


def belongs_to_one_guest() -> None:
    """By the XML of the other, and by what it runs with where that was taken back meanwhile."""
    define(OTHER, str)
    for _ in range(2):
        (done,) = prepare(*DAX, OTHER.name, code=4)
        assert codes(done) == ["ram-file-taken"]
        assert f"in {STAND_IN}, which holds the RAM of domain {ON_DEVICE.name}" in done["findings"][0]["message"]
        prepare("--undo", ON_DEVICE.name)
    virsh("destroy", ON_DEVICE.name)
    both = prepare(*DAX, OTHER.name, ON_DEVICE.name, code=3)
    assert sorted(one["result"] for one in both) == ["blocked", "prepared"]
    prepare("--undo", OTHER.name)
    prepare(*DAX, ON_DEVICE.name)


def follows_the_domain(before: str) -> None:
    """A domain with another amount of memory is prepared once more; QEMU says so where the device hasn't got it."""
    virsh("setmaxmem", ON_DEVICE.name, "300M", "--config")
    virsh("setmem", ON_DEVICE.name, "300M", "--config")
    refused = run("virsh", "start", ON_DEVICE.name, check=False)
    assert "does not match the size of the memory backend" in refused.err
    (done,) = prepare(*DAX, ON_DEVICE.name)
    assert len(done["changes"]) == 1
    virsh("start", ON_DEVICE.name)
    assert memdev(ON_DEVICE.name, "ram0")["size"] == 300 * MIB
    virsh("destroy", ON_DEVICE.name)
    virsh("setmaxmem", ON_DEVICE.name, "400M", "--config")
    prepare(*DAX, ON_DEVICE.name)
    refused = run("virsh", "start", ON_DEVICE.name, check=False)
    assert "backing store size" in refused.err
    assert prepare("--undo", ON_DEVICE.name)[0]["result"] == "restored"
    assert "ram0" not in stored(ON_DEVICE.name)
    assert stored(ON_DEVICE.name).count("\n") == before.count("\n")


@pytest.mark.usefixtures("stand_in")
def test_domains_that_a_template_does_not_fit() -> None:
    (done,) = prepared_as(numa(), *DAX, code=4)
    assert codes(done) == ["ram-backend-cells"]
    (done,) = prepared_as(backing("<locked/>"), *DAX)
    assert codes(done) == ["ram-backend-twice"]
    (done,) = prepare(*REBOOT, OTHER.name, code=4)
    assert codes(done) == ["ram-backend-twice", "other-template"]
    (done,) = prepared_as(backing("<hugepages/>"), *REBOOT)
    assert (codes(done), done["result"]) == (["ram-nameless"], "unchanged")
    refused = client.virtcpr("prepare", "--yes", OTHER.name, "--template", "reboot-dax")
    assert refused.code == 2
    assert "'reboot-dax' is no template of mode transfer" in refused.err


def prepared_as(edit: Edit, *options: str, code: int = 0) -> Any:
    client.remove(OTHER.name)
    define(OTHER, edit)
    return prepare(*options, OTHER.name, code=code)
