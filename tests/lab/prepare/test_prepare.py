"""`prepare` on real libvirt: what it writes is taken, started, shared to the last byte, and can be moved."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import REBUILD, REBUILT
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import SMALL, Shape, domain_xml, image_commands
from tests.lab.support.machine import Lab
from tests.lab.support.preparing import Edit, arguments, backing, define, numa, prepare, shares_everything, stored

UNPREPARED = replace(SMALL, prepared=False)
HUGEPAGES = Path("/proc/sys/vm/nr_hugepages")
PAGES = 160  # of 2 MiB
BACKUPS = "/var/lib/virtcpr/xml"


DIMM = "<memory model='dimm' access='private'><target><size unit='MiB'>128</size><node>0</node></target></memory>"
OTHERS = "<metadata><app:note xmlns:app='urn:example:app'>keep me</app:note></metadata><os>"
# How a domain can look before, one for every rule of the template.
FORMS: dict[str, Edit] = {
    "plain": str,
    "private": backing("<access mode='private'/><allocation mode='immediate'/>"),
    "anonymous": backing("<nosharepages/><source type='anonymous'/><access mode='shared'/>"),
    "file": backing("<source type='file'/><discard/>"),
    "cell": numa(),
    "dimm": numa(DIMM),
    "off": arguments("-machine", "aux-ram-share=off", "-global", "virtio-balloon-pci.deflate-on-oom=on"),
    "others": lambda xml: xml.replace("<os>", OTHERS, 1),
}  # fmt: skip
# Those whose RAM isn't one memfd like any other's; the rest is moved suspended, so that all of them needn't boot.
WATCHED = {"file", "cell", "dimm"}


@pytest.fixture(scope="module", autouse=True)
def rebuilt(lab: Lab) -> None:
    run("python3", "-", stdin=REBUILD)


def shape(name: str) -> Shape:
    return replace(UNPREPARED, name=name, number=50 + [*FORMS, "huge", "other"].index(name))


def test_every_form_is_prepared_started_and_moved(guests: Guests) -> None:
    shapes = [shape(name) for name in FORMS]
    before = {one.name: define(one, FORMS[one.name]) for one in shapes}
    assert client.virtcpr("check", *FORMS, "--mode", "transfer").code == 4

    done = prepare(*FORMS)

    assert [one["result"] for one in done] == ["prepared"] * len(FORMS)
    after = {name: stored(name) for name in FORMS}
    assert [one["result"] for one in prepare(*FORMS)] == ["unchanged"] * len(FORMS)
    assert {name: stored(name) for name in FORMS} == after
    assert "keep me" in after["others"]
    assert "virtio-balloon-pci.deflate-on-oom=on" in after["off"]
    assert "aux-ram-share=off" not in after["off"].partition("</metadata>")[2]
    assert "<source type='file'/>" in after["file"]
    for one in shapes:
        guests.adopt(one)
        virsh("start", one.name)
        shares_everything(one.name)
        if one.name not in WATCHED:
            virsh("suspend", one.name)
    watched = [one for one in shapes if one.name in WATCHED]
    guests.watch(*watched)

    report = client.upgrade("--all", "--emulator", REBUILT)

    assert [domain["result"] for domain in report["domains"]] == ["upgraded"] * len(FORMS), report
    for one in watched:
        guests.assert_well(one)
    for one in shapes:
        shares_everything(one.name)
        virsh("destroy", one.name)
    assert [one["result"] for one in prepare("--undo", *FORMS)] == ["restored"] * len(FORMS)
    assert {name: stored(name) for name in FORMS} == before


@pytest.mark.thorough
@pytest.mark.parametrize("how", [(), ("--mode", "reboot")], ids=["copied", "by a file"])
def test_every_form_is_made_ready_as_it_runs(guests: Guests, how: tuple[str, ...]) -> None:
    shapes = [shape(name) for name in FORMS]
    for one in shapes:
        define(one, FORMS[one.name])
        guests.adopt(one)
        virsh("start", one.name)
        if one.name not in WATCHED:
            virsh("suspend", one.name)
    watched = [one for one in shapes if one.name in WATCHED]
    guests.watch(*watched)

    done = json.loads(client.virtcpr("prepare", "--live", *how, *FORMS, "--yes", "-o", "json", timeout=300).out)

    assert {one["result"] for one in done["domains"]} == {"prepared"}
    results = {one["name"]: one["result"] for one in done["moves"]["domains"]}
    assert results == dict.fromkeys(FORMS, "upgraded"), done
    for one in watched:
        guests.assert_well(one)
    for one in shapes:
        shares_everything(one.name)
        assert ("aux-ram-share=off" in virsh("dumpxml", one.name)) is False
    report = client.upgrade(*FORMS, "--emulator", REBUILT)
    assert {domain["result"] for domain in report["domains"]} == {"upgraded"}, report
    for one in watched:
        guests.assert_well(one)


def on_node(xml: str) -> str:
    """libvirt has QEMU allocate its pages by threads on that node, and then takes these threads' object away."""
    node = "<numatune><memory mode='strict' nodeset='0'/></numatune>"
    return xml.replace("<memoryBacking>", f"{node}<memoryBacking>")


@pytest.fixture
def hugepages(request: pytest.FixtureRequest) -> Iterator[None]:
    """Pages of the machine's for so many guests (1), given back afterwards."""
    before, wanted = HUGEPAGES.read_text(), PAGES * getattr(request, "param", 1)
    HUGEPAGES.write_text(f"{int(before) + wanted}\n")
    try:
        if int(HUGEPAGES.read_text()) < wanted:
            pytest.skip(f"the machine has no memory for {wanted} hugepages in one piece")
        yield
    finally:
        HUGEPAGES.write_text(before)


@pytest.mark.usefixtures("hugepages")
def test_hugepages_stay_hugepages(guests: Guests) -> None:
    """Shared but in a directory's nameless file they would be lost: refused, until they are a memfd."""
    one = shape("huge")
    guests.adopt(one)
    trap = arguments("-machine", "aux-ram-share=on", "-global", "virtio-net-pci-base.romfile=")
    define(one, lambda xml: on_node(trap(backing("<hugepages/><access mode='shared'/>")(xml))))
    virsh("start", one.name)
    shares_everything(one.name)
    report = client.upgrade(one.name, "--emulator", REBUILT)
    assert report["exit_code"] == 4
    (finding,) = report["domains"][0]["findings"]
    assert finding["code"] == "ram-directory"
    assert "is a file in a directory (/dev/hugepages/libvirt/qemu" in finding["message"]

    assert prepare(one.name)[0]["changes"] == ["added memoryBacking/source type='memfd'"]

    assert "<hugepages/>" in stored(one.name)
    virsh("destroy", one.name)
    virsh("start", one.name)
    guests.watch(one)
    assert client.upgrade(one.name, "--emulator", REBUILT)["domains"][0]["result"] == "upgraded"
    guests.assert_well(one)
    assert b"memory-backend-memfd" in run("cat", f"/proc/{client.pid(one.name)}/cmdline").out.encode()
    assert '"hugetlb":true' in run("cat", f"/proc/{client.pid(one.name)}/cmdline").out


@pytest.mark.thorough
@pytest.mark.parametrize("hugepages", [2], indirect=True)
@pytest.mark.usefixtures("hugepages")
def test_hugepages_are_copied_into_hugepages(guests: Guests) -> None:
    one = shape("huge")
    guests.adopt(one)
    define(one, lambda xml: on_node(backing("<hugepages/>")(xml)))
    virsh("start", one.name)
    guests.watch(one)

    done = json.loads(client.virtcpr("prepare", "--live", one.name, "--yes", "-o", "json").out)

    assert [domain["result"] for domain in done["moves"]["domains"]] == ["upgraded"], done
    guests.assert_well(one)
    assert '"hugetlb":true' in run("cat", f"/proc/{client.pid(one.name)}/cmdline").out
    assert client.upgrade(one.name, "--emulator", REBUILT)["domains"][0]["result"] == "upgraded"
    guests.assert_well(one)


@pytest.fixture
def other(lab: Lab) -> Iterator[Shape]:
    one = shape("other")
    yield one
    client.remove(one.name)


def test_the_password_of_a_display_survives_and_is_not_shown(other: Shape) -> None:
    vnc = "<graphics type='vnc' port='-1' autoport='yes' passwd='sesame'/></devices>"
    before = define(other, lambda xml: xml.replace("</devices>", vnc))
    shown = client.virtcpr("prepare", "--dry-run", other.name).out
    assert "+    <qemu:arg value='aux-ram-share=on'/>" in shown.replace("+  <", "+  <")
    assert "sesame" not in shown
    assert stored(other.name) == before

    (done,) = prepare(other.name)

    assert "sesame" in stored(other.name)
    assert "sesame" not in json.dumps(done)
    assert run("stat", "-c", "%a %U", done["backup"], BACKUPS).out.split() == ["600", "root", "700", "root"]
    assert run("cat", done["backup"]).out.rstrip("\n") == before.rstrip("\n")


def test_what_the_user_changed_since_is_not_undone(other: Shape) -> None:
    define(other, str)
    prepare(other.name)
    mine = stored(other.name).replace("<access mode='shared'/>", "<access mode='private'/><locked/>")
    shell("virsh -q define /dev/stdin", stdin=mine)

    (done,) = prepare("--undo", other.name)

    assert done["result"] == "restored"
    assert any("memoryBacking/access" in text for text in done["kept"]), done
    after = stored(other.name)
    assert "<access mode='private'/>" in after
    assert "<locked/>" in after
    assert "memfd" not in after
    assert "aux-ram-share" not in after
    assert prepare("--undo", other.name)[0]["result"] == "unchanged"


def test_a_template_of_the_administrator(other: Shape) -> None:
    """One that libvirt won't have is refused, and the domain keeps the XML that it had."""
    before = define(other, str)
    path = "/etc/virtcpr/xml-templates/transfer.xml"
    shell(f"mkdir -p {path.rpartition('/')[0]}; cat > {path}", stdin=(
        "<domain><memoryBacking><access mode='shared'/></memoryBacking><on_poweroff>nonsense</on_poweroff></domain>"
    ))  # fmt: skip
    try:
        (done,) = prepare(other.name, code=4)
        assert path in done["findings"][-1]["message"]
        shell(f"printf '%s' \"<domain><vcpu placement='nonsense'/></domain>\" > {path}")
        (done,) = prepare(other.name, code=1)
        assert done["result"] == "failed"
        assert "nonsense" in done["findings"][-1]["message"]
        assert stored(other.name) == before
        shell(f"printf '%s' \"<domain><unheard-of/></domain>\" > {path}")
        (done,) = prepare(other.name, code=1)
        assert "libvirt didn't accept all changes" in done["findings"][-1]["message"]
        assert stored(other.name) == before
        shell(f"chmod 666 {path}")
        refused = client.virtcpr("prepare", "--yes", other.name)
        assert refused.code == 1
        assert f"{path} can be written by others than root" in refused.err
    finally:
        shell(f"rm -f {path}")


def test_a_transient_domain(other: Shape) -> None:
    for command in image_commands(other):
        run(*command)
    shell("virsh -q create /dev/stdin", stdin=domain_xml(other))
    (done,) = prepare(other.name, code=4)
    assert done["findings"][0]["code"] == "transient"
    assert "virsh dumpxml other --inactive --security-info" in done["findings"][0]["remedy"]
    assert client.virtcpr("check", other.name, "--mode", "transfer").code == 4


def test_what_is_pointed_out(other: Shape) -> None:
    """A managed save, and that the domain keeps the boot ROMs that it boots from."""
    define(other, lambda xml: xml.replace('<model type="virtio" />', '<model type="virtio" /><boot order="1"/>'))
    virsh("start", other.name)
    virsh("managedsave", other.name)
    (done,) = prepare(other.name)
    assert done["result"] == "prepared"
    assert [f["code"] for f in done["findings"]] == ["managed-save", "interface-rom"]
    assert "its interfaces keep their boot ROMs (virtio)" in done["findings"][1]["message"]
    assert "<rom enabled='no'/>" in done["findings"][1]["remedy"]
    assert "romfile" not in stored(other.name)
    virsh("managedsave-remove", other.name)


def test_a_prepared_domain_is_to_boot_from_the_network(other: Shape) -> None:
    define(other, str)
    prepare(other.name)
    shell("virsh -q define /dev/stdin", stdin=stored(other.name).replace("<boot dev='hd'/>", "<boot dev='network'/>"))

    assert "network-boot" in [f["code"] for f in prepare(other.name)[0]["findings"]]

    client.virtcpr("prepare", "--undo", "--yes", other.name, check=True)
    assert [f["code"] for f in prepare(other.name)[0]["findings"]] == ["interface-rom"]
    assert "romfile" not in stored(other.name)


def test_an_interface_comes_back_to_where_one_was_detached(other: Shape, guests: Guests) -> None:
    """With a boot ROM it would take one of the images for it, and write to that."""
    define(other, str)
    prepare(other.name)
    virsh("start", other.name)
    guests.watch(other)
    assert detached(other.name) == detached(other.name)
    for letter in "abcd":
        shell(f"truncate -s 1M /var/lib/libvirt/images/{other.name}-{letter}.img")
        virsh("attach-disk", other.name, f"/var/lib/libvirt/images/{other.name}-{letter}.img", f"sd{letter}",
              "--targetbus", "usb", "--live")  # fmt: skip

    detached(other.name)

    assert client.upgrade("--emulator", REBUILT, other.name)["exit_code"] == 0
    detached(other.name)
    guests.assert_well(other)
    images = f"/var/lib/libvirt/images/{other.name}-?.img"
    assert run("sh", "-c", f"cat {images} | tr -d '\\0' | wc -c").out.strip() == "0"
    shell(f"rm -f {images}")


def detached(name: str) -> str:
    """Attach an interface, and detach it when the guest has it; the slot that it was in."""
    mac = "52:54:00:00:99:01"
    virsh("attach-interface", name, "network", "default", "--model", "virtio", "--mac", mac, "--live")
    assert "virtio-net-pci.rom" not in virsh("qemu-monitor-command", "--hmp", name, "info ramblock")
    (slot,) = re.findall(rf"{mac}.*?<address ([^>]*)/>", virsh("dumpxml", name), re.DOTALL)
    virsh("detach-interface", name, "network", "--mac", mac, "--live")
    run("timeout", "30", "sh", "-c", f"while virsh dumpxml {name} | grep -q {mac}; do sleep 0.1; done")
    return str(slot)


def test_not_root(other: Shape) -> None:
    define(other, str)
    done = run("setpriv", "--reuid", "nobody", "--clear-groups", "virtcpr", "prepare", "-y", other.name, check=False)
    assert done.code == 1
    assert "only root can change domains" in done.err
