"""The block graph as it is, from a command line that is stale.

``data/images.json`` is a real guest's (QEMU 10.0.2, libvirt 11.3) after snapshots, commits, a pull, copies, an ejected
CD-ROM and disks that were attached: LUKS, a slice, NBD.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.paths import DATA
from tests.unit.support import facts
from virtcpr.domain import disks, qmp
from virtcpr.domain.argv import CommandLine, Option
from virtcpr.domain.facts import Below, BlockNode, Drive, QemuFacts
from virtcpr.domain.reconcile import blocks, objects
from virtcpr.domain.reconcile.change import Change

RECORDED: dict[str, Any] = json.loads((DATA / "images.json").read_text())
LINE = CommandLine.parse(RECORDED["argv"])
STATUS: str = RECORDED["status_xml"]
NODES = qmp.block_nodes(RECORDED["query-named-block-nodes"], RECORDED["query-blockstats"])
DRIVES = qmp.drives(RECORDED["query-block"])


def qemu(nodes: tuple[BlockNode, ...] = NODES, drives: tuple[Drive, ...] = DRIVES) -> QemuFacts:
    return replace(facts.qemu(), nodes=nodes, drives=drives)


def applied(line: CommandLine, change: Change) -> CommandLine:
    kept = (change.replaced.get(option, option) for option in line.options)
    return CommandLine(line.emulator, (*(option for option in kept if option is not None), *change.added))


def graph(line: CommandLine) -> dict[str, dict[str, Any]]:
    return {str(o.properties()["node-name"]): dict(o.properties()) for o in line.named("blockdev")}


def line_of(*nodes: dict[str, object]) -> CommandLine:
    return CommandLine("/qemu", tuple(Option("blockdev", json.dumps(node)) for node in nodes))


def status(*parts: str) -> str:
    return f"<domstatus><domain><devices>{''.join(parts)}</devices></domain></domstatus>"


NOW = applied(LINE, blocks.change(LINE, qemu(), STATUS))


def test_it_has_qemus_nodes_and_opens_no_other_file() -> None:
    nodes = graph(NOW)
    assert nodes.keys() == {node.name for node in NODES}
    files = {node.file for node in NODES}
    assert {node["filename"] for node in nodes.values() if "filename" in node} <= files
    stale = {str(node["filename"]) for node in graph(LINE).values() if "filename" in node} - files
    assert {path.rpartition("/")[2] for path in stale} == {"img-2.raw", "luks.qcow2", "t.raw", "img.iso"}
    assert not any(path in word for word in NOW.argv() for path in stale)


def test_every_node_comes_after_what_it_is_on_top_of_which_is_what_qemu_says() -> None:
    defined: set[str] = set()
    nodes = graph(NOW)
    for name, node in nodes.items():
        children = {node[key] for key in ("file", "backing", "data-file") if node.get(key)}
        assert children <= defined, name
        defined.add(name)
    for block in NODES:
        if block.below is not None and block.below.data != block.below.backing:
            assert nodes[block.name].get("backing") == block.below.backing, block
            children = {nodes[block.name].get(key) for key in ("file", "data-file")}
            assert block.below.data in children | {None}, block


def test_options_that_qemu_does_not_tell_are_libvirts() -> None:
    """Compared with what libvirt itself gave QEMU (its log of blockdev-add)."""
    nodes = graph(NOW)
    local = "/var/lib/libvirt/images"
    assert nodes["libvirt-21-format"] == {
        "node-name": "libvirt-21-format", "read-only": False, "discard": "unmap", "detect-zeroes": "on",
        "driver": "qcow2", "encrypt": {"format": "luks", "key-secret": "libvirt-21-format-encryption-secret0"},
        "file": "libvirt-21-storage", "backing": None,
    }  # fmt: skip
    assert nodes["libvirt-21-storage"] == {
        "driver": "file", "filename": f"{local}/hl.qcow2", "aio": "threads", "node-name": "libvirt-21-storage",
        "auto-read-only": True, "discard": "unmap",
    }  # fmt: skip
    assert nodes["libvirt-CoR-sdw"] == {
        "driver": "copy-on-read", "node-name": "libvirt-CoR-sdw", "file": "libvirt-21-format", "discard": "unmap",
    }  # fmt: skip
    assert nodes["libvirt-22-storage"] == {
        "driver": "file", "filename": f"{local}/h3.raw", "aio": "native", "node-name": "libvirt-22-storage",
        "auto-read-only": True, "discard": "unmap", "cache": {"direct": True, "no-flush": False},
    }  # fmt: skip
    assert nodes["libvirt-22-slice-sto"] == {
        "driver": "raw", "file": "libvirt-22-storage", "offset": 1048576, "size": 1048576, "read-only": False,
        "node-name": "libvirt-22-slice-sto", "cache": {"direct": True, "no-flush": False},
    }  # fmt: skip
    assert nodes["libvirt-23-storage"] == {
        "driver": "nbd", "server": {"type": "unix", "path": "/tmp/nbd.sock"}, "export": "exp",
        "node-name": "libvirt-23-storage", "read-only": False,
    }  # fmt: skip
    assert nodes["libvirt-24-storage"] == {
        "driver": "nbd", "server": {"type": "inet", "host": "127.0.0.1", "port": "10999"}, "export": "exq",
        "reconnect-delay": 10, "node-name": "libvirt-24-storage", "read-only": True,
    }  # fmt: skip


def test_a_node_that_stays_is_as_it_was_told_but_for_what_changed() -> None:
    before, after = graph(LINE), graph(NOW)
    # An overlay is on top of the first now, and the second's data is in a file of its own.
    assert after["libvirt-7-format"] == before["libvirt-7-format"] | {"read-only": True}
    assert after["libvirt-9-storage"] == before["libvirt-9-storage"] | {"read-only": True}
    assert after["libvirt-CoR-vde"] == before["libvirt-CoR-vde"] | {"file": "libvirt-15-format"}
    unchanged = ("libvirt-8-format", "libvirt-pflash0-format", "libvirt-pflash1-storage", "libvirt-2-storage")
    assert {name: after[name] for name in unchanged} == {name: before[name] for name in unchanged}


def test_what_was_rebuilt_is_rebuilt_no_more() -> None:
    """A second swap finds nothing to change, byte for byte."""
    assert blocks.change(NOW, qemu(), STATUS) == Change()
    drives = blocks.with_drives(NOW, qemu())
    assert blocks.with_drives(drives, qemu()) == drives


def test_an_unchanged_guest_needs_no_record() -> None:
    assert blocks.change(facts.line(), facts.qemu(), "<domstatus/>") == Change()
    assert blocks.with_drives(facts.line(), facts.qemu()) == facts.line()


def test_each_device_has_the_node_that_it_has_now() -> None:
    devices = {o.properties()["id"]: o.properties() for o in blocks.with_drives(NOW, qemu()).named("device")}
    assert {
        str(name): device.get("drive") for name, device in devices.items() if name in {d.device for d in DRIVES}
    } == {
        "virtio-disk0": "libvirt-14-format",
        "virtio-disk1": "libvirt-11-format",
        "virtio-disk4": "libvirt-CoR-vde",
        "virtio-disk11": "libvirt-27-format",
        "virtio-disk19": "libvirt-18-format",
        "scsi0-0-0-0": "libvirt-2-storage",
        "sata0-0-1": None,
    }
    usb = Option("device", '{"driver":"usb-storage","id":"usb-disk22","bus":"usb.0"}')
    (device,) = blocks.with_drives(CommandLine("/qemu", (usb,)), qemu()).options
    assert device.properties()["drive"] == "libvirt-CoR-sdw"


def test_the_machines_own_drives_and_legacy_ones_are_left_alone() -> None:
    assert {drive.device for drive in DRIVES if "system.flash" in drive.path} == {""}
    legacy = {"qdev": "/machine/unattached/device[5]", "device": "ide0-cd0", "inserted": {"node-name": "#block1"}}
    assert qmp.drives([legacy]) == ()


FILE: dict[str, object] = {"driver": "file", "filename": "/a", "node-name": "a"}
TOP: dict[str, object] = {"driver": "qcow2", "node-name": "top", "file": "a", "backing": "base", "read-only": False}
BASE: dict[str, object] = {"driver": "qcow2", "node-name": "base", "file": "b", "backing": None, "read-only": True}
B: dict[str, object] = {"driver": "file", "filename": "/b", "node-name": "b"}
A_NODE, B_NODE = BlockNode("a", "/a", "file", below=Below()), BlockNode("b", "/b", "file", below=Below())
BASE_NODE = BlockNode("base", "/b", "qcow2", read_only=True, below=Below("b"))
TOP_NODE = BlockNode("top", "/a", "qcow2", below=Below("a", "base"))
DISK = """<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
<source file='/a'><privateData><nodenames><nodename type='storage' name='a'/><nodename type='format' name='top'/>
</nodenames></privateData></source><backingStore/><target dev='vda' bus='virtio'/></disk>"""


@pytest.mark.parametrize(
    ("node", "changes"),
    [
        (TOP_NODE, {}),
        (replace(TOP_NODE, below=Below("a", None)), {"backing": None}),
        (replace(TOP_NODE, read_only=True), {"read-only": True}),
        (replace(TOP_NODE, below=None), {}),
        (replace(TOP_NODE, below=Below("a", "#block7")), {}),
    ],
    ids=["nothing", "pulled", "read-only", "not-told", "unnamed"],
)
def test_what_a_node_is_on_top_of(node: BlockNode, changes: dict[str, object]) -> None:
    line = line_of(B, BASE, FILE, TOP)
    now = applied(line, blocks.change(line, qemu((B_NODE, BASE_NODE, A_NODE, node), ()), status()))
    assert graph(now)["top"] == TOP | changes
    assert (now == line) is (not changes)


def test_a_node_of_another_file_is_another_node() -> None:
    line = line_of(B, BASE, FILE | {"filename": "/stale"}, TOP)
    change = blocks.change(line, qemu((B_NODE, BASE_NODE, A_NODE, TOP_NODE), ()), status(DISK))
    now = applied(line, change)
    assert change.refused == ()
    assert graph(now)["a"]["filename"] == "/a"
    assert list(graph(now)) == ["b", "base", "a", "top"], "what stood on it comes after it"


def test_a_base_that_came_later_than_what_is_on_top_of_it() -> None:
    line = line_of(FILE, TOP, B, BASE)
    now = applied(line, blocks.change(line, qemu((B_NODE, BASE_NODE, A_NODE, TOP_NODE), ()), status()))
    assert list(graph(now)) == ["a", "b", "base", "top"]


NETWORK = """<disk type='network' device='disk'><driver name='qemu' type='raw'/><source {0}>{1}<privateData><nodenames>
<nodename type='storage' name='a'/></nodenames></privateData></source><target dev='vdz' bus='virtio'/></disk>"""


@pytest.mark.parametrize(
    ("node", "record", "message"),
    [
        (A_NODE, "", "block node a was attached or changed since the guest started, and it isn't in libvirt's record"),
        (
            BlockNode("a", "rbd:pool/x", "rbd"),
            NETWORK.format("protocol='rbd' name='pool/x'", ""),
            "disk vdz was attached or changed since the guest started, and its image is of a kind that can't be opened "
            "again yet ('rbd')",
        ),
        (
            BlockNode("a", "nbd://h", "nbd"),
            NETWORK.format("protocol='nbd' name='x' tls='yes'", "<host name='h'/>"),
            "its image is on an NBD server with TLS",
        ),
        (BlockNode("a", "nbd://h", "nbd"), NETWORK.format("protocol='nbd'", ""), "its NBD server isn't in libvirt's"),
        (
            BlockNode("a", "nbd://h", "file"),
            NETWORK.format("protocol='nbd'", "<host name='h'/>"),
            "block node a has the driver file, but libvirt's record names another",
        ),
        (
            replace(A_NODE, file="/other"),
            DISK,
            "disk vda was attached or changed since the guest started, and block node a is /other, but libvirt's "
            "record names another file",
        ),
        (
            replace(A_NODE, file="/dev/fdset/4"),
            DISK.replace("file='/a'", "pool='p' volume='v'").replace("type='file'", "type='volume'"),
            "block node a was opened by a descriptor",
        ),
        (
            BlockNode("top", "/a", "qcow2"),
            DISK.replace("<privateData>", "<encryption format='luks'/><privateData>"),
            "its key isn't in libvirt's record",
        ),
        (
            BlockNode("a", "/a", "raw"),
            DISK.replace("'storage'", "'x'").replace("'format' name='top'", "'slice-storage' name='a'"),
            "its slice isn't in libvirt's record",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_rebuilt_is_refused_by_name(node: BlockNode, record: str, message: str) -> None:
    (refused,) = blocks.change(line_of(), qemu((node,), ()), status(record)).refused
    assert message in refused


def test_a_node_on_top_of_one_that_is_gone_is_refused() -> None:
    line = line_of(B, BASE, FILE, TOP)
    change = blocks.change(line, qemu((BASE_NODE, A_NODE, TOP_NODE, replace(B_NODE, name="c")), ()), status())
    assert "block node base on b, which QEMU doesn't name" in change.refused


def test_the_whole_chain_has_what_the_disk_is_told() -> None:
    """But for what is for the image on top only (qemuDomainPrepareDiskSourceData)."""
    text = """<disk type='block' device='lun'><driver name='qemu' type='qcow2' io='io_uring' discard='unmap'
    discard_no_unref='on'/><source dev='/dev/x'><privateData><nodenames><nodename type='storage' name='s'/>
    <nodename type='format' name='f'/></nodenames></privateData></source><backingStore type='file'>
    <format type='raw'/><source file='/base'><encryption format='luks'/><privateData><nodenames>
    <nodename type='storage' name='bs'/><nodename type='format' name='bf'/></nodenames><objects>
    <secret type='encryption' alias='key'/></objects></privateData></source><backingStore/></backingStore>
    <target dev='sda' bus='scsi'/></disk>"""
    nodes = disks.recorded(status(text))
    assert {name: dict(node.options) for name, node in nodes.items()} == {
        "s": {"aio": "io_uring", "node-name": "s", "auto-read-only": True, "discard": "unmap"},
        "f": {
            "node-name": "f",
            "discard": "unmap",
            "driver": "qcow2",
            "discard-no-unref": True,
            "file": "s",
        },
        "bs": {"aio": "io_uring", "node-name": "bs", "auto-read-only": True, "discard": "unmap"},
        "bf": {"node-name": "bf", "discard": "unmap", "driver": "luks", "key-secret": "key", "file": "bs"},
    }
    assert (nodes["f"].backing, nodes["bf"].backing) == ("bf", None)


def test_zeroes_are_unmapped_only_where_discarding_is_allowed() -> None:
    node = replace(A_NODE, detect_zeroes="unmap")
    raw = DISK.replace("type='qcow2'", "type='raw'").replace("<nodename type='format' name='top'/>", "")
    (option,) = blocks.change(line_of(), qemu((node,), ()), status(raw)).added
    assert (option.properties()["discard"], option.properties()["detect-zeroes"]) == ("unmap", "unmap")


def test_throttles_as_block_set_io_throttle_takes_them() -> None:
    limits = {drive.device: drive.throttle for drive in DRIVES if drive.throttle}
    assert limits.keys() == {"virtio-disk1", "virtio-disk19"}
    assert limits["virtio-disk1"]["group"] == "gg"
    assert (limits["virtio-disk1"]["bps_max"], limits["virtio-disk1"]["bps_max_length"]) == (20000000, 3)
    assert {"bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"} <= limits["virtio-disk19"].keys()


def test_a_medium_of_an_administrators_own_drive_that_is_out_is_refused() -> None:
    whole = (Option("pflash", "/code"), Option("cdrom", "/a.iso"), Option("drive", "if=none,id=empty"))
    line = CommandLine(
        "/qemu", (Option("drive", "file=/a.iso,if=ide,media=cdrom"), Option("drive", "file=nbd://h/x"), *whole)
    )
    there = qmp.legacy_drives([{"device": "ide0-cd0", "inserted": {"file": "/a.iso"}}])
    assert blocks.change(line, replace(qemu(()), legacy=there), status()).refused == ()
    out = qmp.legacy_drives([{"device": "ide0-cd0"}])
    assert set(blocks.change(line, replace(qemu(()), legacy=out), status()).refused) == {
        "QEMU was started with the drive /a.iso, which it no longer has"
    }


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([Option("cdrom", "/b.iso")], "/b.iso, which it no longer has"),
        ([Option("hda", "/a.iso"), Option("snapshot")], "/a.iso, whose changes are in a temporary file"),
        ([Option("drive", "driver=raw,file.filename=/a,if=ide")], "file.filename=/a,if=ide, and doesn't say"),
        ([Option("drive", "file.driver=file,file.filename=/a")], "and doesn't say what the drive holds"),
        ([Option("drive", "file=/a.iso,snapshot=on")], "/a.iso, whose changes are in a temporary file (snapshot)"),
        ([Option("snapshot"), Option("drive", "file=nbd://h/x")], "nbd://h/x, whose changes are in a temporary file"),
    ],
)
def test_drives_of_an_administrators_own_that_may_be_others_now_are_refused(options: list[Option], why: str) -> None:
    there = qmp.legacy_drives([{"device": "ide0-cd0", "inserted": {"file": "/a.iso"}}])
    change = blocks.change(CommandLine("/qemu", tuple(options)), replace(qemu(()), legacy=there), status())
    assert why in change.refused[0]


def test_only_formats_that_can_have_one_are_given_a_backing_image() -> None:
    disk = (
        "<disk type='file'><driver name='qemu' type='{0}'><metadata_cache><max_size unit='bytes'>4096</max_size>"
        "</metadata_cache></driver><source file='/a'><privateData><nodenames><nodename type='storage' name='s'/>"
        "<nodename type='format' name='f'/></nodenames></privateData></source><backingStore/><target dev='vda'/></disk>"
    )
    for kind, backing in (("vdi", False), ("vpc", False), ("qcow2", True), ("qed", True)):
        nodes = (BlockNode("s", "/a", "file"), BlockNode("f", "/a", kind, below=Below("s", None)))
        change = blocks.change(CommandLine("/qemu", ()), qemu(nodes), status(disk.format(kind)))
        assert change.refused == ()
        made = change.added[-1].properties()
        assert ("backing" in made) is backing
        assert made["cache-size"] == 4096


def test_a_floppy_drive_stays_of_its_kind_without_its_medium() -> None:
    floppy = '{"driver":"floppy","unit":0,"drive":"a","id":"fdc0-0-0"}'
    line = CommandLine("/qemu", (Option("device", floppy),))
    assert blocks.with_drives(line, qemu((A_NODE,), (Drive("fdc0-0-0", "a", floppy="144"),))) == line
    (device,) = blocks.with_drives(line, qemu((A_NODE,), (Drive("fdc0-0-0", None, floppy="144"),))).options
    assert device.properties() == {"driver": "floppy", "unit": 0, "id": "fdc0-0-0", "drive-type": "144"}


def test_limits_of_a_group_are_given_again_only_where_they_changed() -> None:
    """QEMU says all of them, libvirt gives those without the length of bursts."""
    given = {"iops-total": 100, "bps-total": 0, "iops-total-max": 0}
    option = Option("object", json.dumps({"qom-type": "throttle-group", "id": "throttle-x", "limits": given}))
    line = CommandLine("/qemu", (option,))
    limits = {**given, "iops-total-max-length": 1, "bps-write": 0}

    def changed(limits: dict[str, int]) -> Change:
        known = replace(qemu(), objects={"throttle-x": "throttle-group"}, settings={"throttle-x": {"limits": limits}})
        return objects.change(line, known)

    assert changed(limits) == Change()
    (new,) = changed({**limits, "iops-total": 77}).replaced.values()
    assert new is not None
    assert new.properties()["limits"] == {**limits, "iops-total": 77}


def test_a_throttle_on_top_of_a_disk() -> None:
    filters = "<privateData><nodenames><nodename type='throttle-filter' name='t' group='g'/></nodenames></privateData>"
    node = BlockNode("t", "json:{}", "throttle", below=Below("a", "a"))
    raw = DISK.replace("type='qcow2'", "type='raw'").replace("<nodename type='format' name='top'/>", "")
    added = blocks.change(
        line_of(), qemu((node, A_NODE), ()), status(raw.replace("</disk>", f"{filters}</disk>"))
    ).added
    assert [option.properties() for option in added] == [
        {"node-name": "a", "driver": "file", "filename": "/a", "read-only": False},
        {"node-name": "t", "driver": "throttle", "throttle-group": "throttle-g", "file": "a"},
    ]
