"""The twin: the same machine, and nothing of the guest's own."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.unit.support import facts
from virtcpr.domain.argv import CommandLine, Option
from virtcpr.domain.facts import BlockNode
from virtcpr.domain.twin import NoTwin, copied_from, copied_to, in_files, twin

PARTS = ("device", "netdev", "chardev", "audiodev")


def line(*more: Option) -> CommandLine:
    known = CommandLine.parse(facts.process().argv)
    return replace(known, options=(*known.options, *more))


def twin_of(*more: Option, nodes: tuple[BlockNode, ...] = ()) -> CommandLine:
    return twin(line(*more), (*facts.qemu().nodes, *nodes))


def test_it_has_every_device_in_its_place() -> None:
    ours, theirs = twin_of(), line()
    for part in PARTS:
        assert ours.ids(part) == theirs.ids(part)
    for old, new in zip(theirs.named("device"), ours.named("device"), strict=True):
        for key in ("driver", "addr", "bus", "drive", "netdev", "chardev"):
            assert new.properties().get(key) == old.properties().get(key)


def test_nothing_of_the_guest_is_in_it() -> None:
    """No image, descriptor, address or name: whatever it did, it could do no harm."""
    domain = facts.domain()
    words = "\n".join(twin_of().argv()[1:])
    assert f"guest={domain.name}" not in words
    assert f"-{domain.name}/" not in words
    assert domain.uuid not in words
    assert "52:54:00:57" not in words
    for node in facts.qemu().nodes:
        assert node.file not in words
    for option in twin_of().options:
        assert not {"fd", "fds", "vhostfd", "file", "filename", "path"} & option.properties().keys() or (
            option.properties().get("qom-type") == "rng-random"
        )
    assert not list(twin_of().named("add-fd", "vnc", "incoming", "S", "mon", "name", "uuid"))


def test_guests_of_one_shape_have_one_twin() -> None:
    argv = [
        word.replace("-d1", "-d2").replace("=d1", "=d2").replace("52:54:00:", "52:54:01:") for word in line().argv()
    ]
    assert tuple(argv) != line().argv()
    assert twin(CommandLine.parse(argv), facts.qemu().nodes) == twin_of()


def test_images_are_blank_and_of_the_same_size() -> None:
    blanks = {str(o.properties()["node-name"]): o.properties() for o in twin_of().named("blockdev")}
    used = {str(o.properties()["drive"]) for o in line().named("device") if "drive" in o.properties()}
    assert blanks.keys() == used
    sizes = {node.name: node.size for node in facts.qemu().nodes}
    for name, properties in blanks.items():
        assert properties["driver"] == "null-co"
        assert properties["size"] == sizes[name]
    assert {name for name, blank in blanks.items() if blank["read-only"]} == {"libvirt-1-storage"}


def test_firmware_images_are_blank_too() -> None:
    code = Option("blockdev", '{"driver":"file","filename":"/usr/share/OVMF","node-name":"flash","read-only":true}')
    made = twin_of(
        code, Option("machine", "pflash0=flash"), nodes=(BlockNode("flash", "/usr/share/OVMF", "file", 0, 4),)
    )
    assert '"node-name":"flash","size":4,' in "".join(made.argv())


@pytest.mark.parametrize(
    "given",
    [
        '{"qom-type":"memory-backend-file","id":"ram1","mem-path":"/dev/hugepages","prealloc":true,"size":4096}',
        "memory-backend-memfd,id=ram1,hugetlb=on,prealloc=on,size=4096,host-nodes=1,policy=bind",
    ],
)
def test_memory_is_of_the_same_size_and_costs_nothing(given: str) -> None:
    (made,) = [
        o.properties() for o in twin_of(Option("object", given)).named("object") if o.properties()["id"] == "ram1"
    ]
    assert made.get("qom-type", made.get("")) == "memory-backend-memfd"
    assert str(made["size"]) == "4096"
    assert made["share"] in (True, "on")
    assert not {"mem-path", "prealloc", "hugetlb", "host-nodes", "policy"} & made.keys()


@pytest.mark.parametrize(
    "given",
    [
        '{"qom-type":"memory-backend-ram","id":"ram1","size":4096,"x-use-canonical-path-for-ramblock-id":false}',
        "memory-backend-ram,id=ram1,size=4096,x-use-canonical-path-for-ramblock-id=false",
    ],
)
def test_memory_that_is_copied_is_private_before_and_shared_after(given: str) -> None:
    """Its name must be the same; what was never written has no pages in either."""
    plain = twin_of(Option("object", given))
    (before,) = (o.properties() for o in copied_from(plain).named("object") if o.properties()["id"] == "ram1")
    (after,) = (o.properties() for o in copied_to(plain).named("object") if o.properties()["id"] == "ram1")
    assert before.get("qom-type", before.get("")) == "memory-backend-ram"
    assert "share" not in before
    assert after.get("qom-type", after.get("")) == "memory-backend-memfd"
    assert after["share"] in (True, "on")
    assert after["x-use-canonical-path-for-ramblock-id"] in (False, "off", "false")
    assert copied_to(plain).options[-1] == Option("machine", "aux-ram-share=on")


@pytest.mark.parametrize(
    "given",
    [
        '{"qom-type":"memory-backend-ram","id":"ram1","size":4096,"x-use-canonical-path-for-ramblock-id":false}',
        "memory-backend-ram,id=ram1,size=4096,x-use-canonical-path-for-ramblock-id=false",
    ],
)
def test_memory_in_files_is_named_and_shared(given: str) -> None:
    """Only that stays where it is in mode reboot; each has a file of its own, the same one in both processes."""
    iothread = Option("object", '{"qom-type":"iothread","id":"thread1"}')
    plain = twin_of(iothread, Option("object", given))
    made = in_files(plain, "/place/ram")
    assert made == in_files(plain, "/place/ram")
    backends = [o.properties() for o in made.named("object") if "memory-backend" in str(o.value)]
    paths = [backend["mem-path"] for backend in backends]
    assert len(paths) == len(set(paths)) == 2
    assert all(str(path).startswith("/place/ram") for path in paths)
    assert all(backend["share"] in (True, "on") for backend in backends)
    (ram1,) = [backend for backend in backends if backend["id"] == "ram1"]
    assert ram1.get("qom-type", ram1.get("")) == "memory-backend-file"
    assert str(ram1["size"]) == "4096"
    assert ram1["x-use-canonical-path-for-ramblock-id"] in (False, "false")
    others = [o for o in plain.options if o not in made.options]
    assert len(others) == 2
    assert all(o.name == "object" for o in others)


def test_what_only_images_and_displays_need_is_left_out() -> None:
    secret = Option("object", '{"qom-type":"secret","id":"key","file":"/somewhere/master-key.aes"}')
    thread = Option("object", '{"qom-type":"iothread","id":"iothread1"}')
    objects = twin_of(secret, thread).ids("object")
    assert "key" not in objects
    assert "iothread1" in objects


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (Option("drive", "file=/x,if=sd"), "its command line has -drive"),
        (Option("usbdevice", "serial"), "its command line has -usbdevice"),
        (Option("device", '{"driver":"vfio-ccw","devno":"fe.0.1"}'), r"a host device \(vfio-ccw\)"),
        (Option("device", "usb-host,hostbus=1,hostaddr=2"), r"a host device \(usb-host\)"),
        (Option("device", "vhost-scsi-pci,wwpn=naa.1,vhostfd=9"), r"a host device \(vhost-scsi-pci\)"),
        (Option("object", "dbus-vmstate,addr=unix:path=/x"), r"an object that belongs to the host \(dbus-vmstate\)"),
        (
            Option("plugin", "file=/var/lib/libvirt/qemu/domain-1-web/x.so"),
            "its command line has -plugin, which virtcpr doesn't",
        ),
        (
            Option("readconfig", "/var/lib/libvirt/qemu/domain-1-web/x"),
            "its command line has -readconfig, which virtcpr doesn't",
        ),
        (Option("machine", "dumpdtb=/var/lib/libvirt/images/other.img"), "its machine has dumpdtb"),
        (
            Option("object", "x-remote-object,id=x,fd=1,devid=y"),
            r"an object that virtcpr doesn't know \(x-remote-object\)",
        ),
        (Option("device", '{"driver":"virtio-blk-pci","drive":"gone"}'), "the image gone isn't on its command line"),
        (Option("device", "virtio-blk-pci,drive=other,id=x"), "the image other isn't on its command line"),
    ],
)
def test_what_has_no_twin(option: Option, message: str) -> None:
    with pytest.raises(NoTwin, match=message):
        twin_of(option)


def test_neither_a_keymap_nor_a_tpm_stands_against_a_twin() -> None:
    """A TPM's back end is a process of the host's: its twin has neither."""
    tpm = Option("tpmdev", "emulator,id=tpm-tpm0,chardev=chrtpm")
    device = Option("device", '{"driver":"tpm-crb","tpmdev":"tpm-tpm0","id":"tpm0"}')
    assert twin_of(Option("k", "en-us"), tpm, device).argv() == twin_of().argv()


def test_an_image_of_unknown_size_has_no_twin() -> None:
    nodes = tuple(replace(node, size=None) for node in facts.qemu().nodes)
    with pytest.raises(NoTwin, match="the size of its image libvirt-"):
        twin(line(), nodes)


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (Option("serial", "tcp:host:1"), Option("serial", "null")),
        (Option("serial", "none"), Option("serial", "none")),
        (Option("parallel", "/dev/parport0"), Option("parallel", "null")),
        (Option("fw_cfg", "name=opt/x,file=/etc/passwd"), Option("fw_cfg", "name=opt/x,string=-")),
        (Option("fw_cfg", "opt/x,string=secret"), Option("fw_cfg", "name=opt/x,string=-")),
        (Option("fsdev", "local,id=fs0,path=/home,security_model=none"), Option("fsdev", "synth,id=fs0")),
        (
            Option("netdev", '{"type":"user","id":"net9","hostfwd":[{"str":"tcp::22-:22"}]}'),
            Option("netdev", '{"type":"user","id":"net9","restrict":true}'),
        ),
        (
            Option("netdev", "user,id=net9,hostfwd=tcp::22-:22"),
            Option("netdev", '{"type":"user","id":"net9","restrict":true}'),
        ),
        (Option("chardev", "spicevmc,id=spice9,name=vdagent"), Option("chardev", "null,id=spice9")),
        (Option("spice", "port=5900,addr=127.0.0.1"), None),
        (Option("object", "input-linux,id=in0,evdev=/dev/input/event0,grab_all=on"), None),
        (Option("object", "filter-dump,id=f0,netdev=net0,file=/x"), None),
    ],
)
def test_back_ends_that_have_a_substitute(given: Option, made: Option | None) -> None:
    usual, more = twin_of().options, twin_of(given).options
    assert given not in more or given == made
    assert [option for option in more if option not in usual] == ([made] if made else [])


def test_json_stays_json() -> None:
    for option in twin_of().named("device", "blockdev", "netdev"):
        assert option.value is not None
        json.loads(option.value)
