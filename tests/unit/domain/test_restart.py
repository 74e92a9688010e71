"""The XML that makes a guest wait for its state: added, taken out again, and nothing else touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from tests.unit.support import facts
from virtcpr.domain import restart
from virtcpr.domain.xml import QEMU_NS
from virtcpr.errors import ParseError

NS = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"
LIVE = facts.domain().xml
STATUS = facts.domain().status_xml
PLAIN = """<domain type='kvm'>
  <name>web</name>
  <devices>
    <emulator>/usr/bin/qemu</emulator>
  </devices>
</domain>
"""
WORDS = st.text("-abc.=,'\"<>& é0", min_size=1, max_size=12).filter(lambda word: word not in restart.WAITING)


def canonical(xml: str) -> str:
    """Without what means nothing: blanks between elements, quotes."""
    return str(etree.canonicalize(xml, strip_text=True))


def arguments(xml: str) -> list[str]:
    return [str(node.get("value")) for node in etree.fromstring(xml).iter(restart.ARG)]


def status(xml: str, *taints: str) -> str:
    marks = "".join(f"<taint flag='{taint}'/>" for taint in taints)
    return f"<domstatus state='running' pid='7'>{marks}{xml}</domstatus>"


@pytest.mark.parametrize("xml", [LIVE, PLAIN])
def test_it_waits_and_the_rest_is_as_it_was(xml: str) -> None:
    made = restart.waiting(xml)
    assert arguments(made) == [*arguments(xml), "-incoming", "defer"]
    assert (restart.waits(xml), restart.waits(made)) == (False, True)
    assert canonical(restart.stripped(status(made), ())) == canonical(status(xml))


@given(words=st.lists(WORDS, max_size=6), title=WORDS, emulator=st.none() | st.just("/opt/qemu"))
def test_taking_it_out_gives_the_same_document(words: list[str], title: str, emulator: str | None) -> None:
    root = etree.fromstring(PLAIN)
    etree.SubElement(root, "title").text = title
    if words:
        line = etree.SubElement(root, restart.COMMANDLINE, nsmap={"qemu": QEMU_NS})
        for word in words:
            etree.SubElement(line, restart.ARG, value=word)
    before = etree.tostring(root, encoding="unicode")
    made = restart.waiting(before, emulator)
    assert arguments(made) == [*words, "-incoming", "defer"]
    after = restart.stripped(status(made), ())
    wanted = before.replace("/usr/bin/qemu", emulator or "/usr/bin/qemu", 1)
    assert canonical(after) == canonical(status(wanted))
    assert not restart.waits(after)


def test_waiting_twice_is_waiting_once() -> None:
    """The live XML of a guest whose leftover nobody has taken out yet."""
    once = restart.waiting(LIVE)
    assert canonical(restart.waiting(once)) == canonical(once)


def test_another_emulator() -> None:
    made = restart.waiting(PLAIN, "/opt/qemu")
    assert etree.fromstring(made).findtext("devices/emulator") == "/opt/qemu"
    assert "<emulator>/usr/bin/qemu</emulator>" in restart.waiting(PLAIN)


def test_the_users_own_environment_stays() -> None:
    own = PLAIN.replace(
        "</domain>", f"<qemu:commandline {NS}><qemu:env name='A' value='b'/></qemu:commandline></domain>"
    )
    assert canonical(restart.stripped(status(restart.waiting(own)), ())) == canonical(status(own))


@pytest.mark.parametrize("words", [("-incoming", "tcp:0:1"), ("-foo", "defer"), ("defer", "-incoming")])
def test_only_the_very_pair_is_ours(words: tuple[str, str]) -> None:
    own = "".join(f"<qemu:arg value='{word}'/>" for word in words)
    xml = PLAIN.replace("</domain>", f"<qemu:commandline {NS}>{own}</qemu:commandline></domain>")
    assert not restart.waits(xml)
    assert canonical(restart.stripped(status(xml), ())) == canonical(status(xml))


@pytest.mark.parametrize(
    ("before", "own", "left"),
    [
        ((), False, ["high-privileges"]),
        (("custom-argv",), False, ["custom-argv", "high-privileges"]),  # it had arguments once: libvirt keeps that
        ((), True, ["custom-argv", "high-privileges"]),
    ],
)
def test_libvirts_note_on_own_arguments_goes_with_them(before: tuple[str, ...], own: bool, left: list[str]) -> None:
    line = f"<qemu:commandline {NS}><qemu:arg value='-x'/></qemu:commandline></domain>"
    xml = PLAIN.replace("</domain>", line) if own else PLAIN
    made = restart.stripped(status(restart.waiting(xml), "custom-argv", "high-privileges"), before)
    assert [node.get("flag") for node in etree.fromstring(made).iter("taint")] == left


@pytest.mark.parametrize(
    ("sleeps", "state", "told"),
    [(True, "running", "pmsuspended"), (False, "running", "running"), (True, "paused", "paused")],
)
def test_libvirt_is_told_of_a_guest_that_sleeps(sleeps: bool, state: str, told: str) -> None:
    """It has resumed it, into its sleep."""
    text = status(restart.waiting(PLAIN)).replace("state='running'", f"state='{state}' reason='booted'")
    root = etree.fromstring(restart.stripped(text, (), sleeps=sleeps))
    assert (root.get("state"), root.get("reason")) == (told, "unknown" if told == "pmsuspended" else "booted")


def test_a_status_file_without_it_stays_as_it_is() -> None:
    assert canonical(restart.stripped(STATUS, ("custom-argv",))) == canonical(STATUS)


def test_what_is_no_domain_is_refused() -> None:
    with pytest.raises(ParseError, match="this is not a domain's XML but <network>"):
        restart.waiting("<network/>")
    with pytest.raises(ParseError, match="libvirt's status file has no domain in it"):
        restart.stripped("<domstatus/>", ())


def test_disks_are_what_it_may_write_to() -> None:
    paths = [disk.path for disk in restart.disks(LIVE)]
    assert paths == ["/var/lib/libvirt/images/d1.qcow2", "/var/lib/libvirt/images/d1.raw"]


VDA = "<target dev='vda'/></disk>"


@pytest.mark.parametrize(
    ("xml", "listed"),
    [
        (f"<disk type='block'><source dev='/dev/vg/a'/>{VDA}", [("/dev/vg/a", "/dev/vg/a")]),
        (f"<disk type='file'><source file='/a'/><readonly/>{VDA}", []),
        (f"<disk type='network'><source protocol='rbd' name='pool/a'/>{VDA}", [("vda (rbd pool/a)", None)]),
        (f"<disk type='network'><source protocol='nbd'/>{VDA}", [("vda (nbd)", None)]),
        (f"<disk type='volume'><source pool='p' volume='v'/>{VDA}", [("vda (p v)", None)]),
        (f"<disk type='nvme'><source type='pci' namespace='1'/>{VDA}", [("vda (pci)", None)]),
        (
            f"<disk type='vhostvdpa'><source dev='/dev/vhost-vdpa-0'/>{VDA}",
            [("/dev/vhost-vdpa-0", "/dev/vhost-vdpa-0")],
        ),
        (f"<disk type='vhostuser'><source/>{VDA}", [("vda (vhostuser)", None)]),
        (f"<disk type='file' device='cdrom'>{VDA}", []),
        (f"<disk type='file' device='cdrom'><source index='1'/>{VDA}", []),
        (f"<disk type='file'><source file='/a'/>{VDA}" * 2, [("/a", "/a")]),
        (
            "<disk type='file'><source file='/a'><dataStore type='block'><format type='raw'/><source dev='/dev/b'/>"
            f"</dataStore></source>{VDA}",
            [("/a", "/a"), ("/dev/b", "/dev/b")],
        ),
        ("<memory model='nvdimm'><source><path>/n</path></source><target/></memory>", [("/n", "/n")]),
        ("<memory model='nvdimm'><source><path>/n</path></source><target><readonly/></target></memory>", []),
        ("<memory model='dimm'><source><pagesize>2</pagesize></source></memory>", []),
        ("<hostdev mode='subsystem' type='scsi'><alias name='hostdev0'/></hostdev>", [("hostdev0 (scsi)", None)]),
        ("<hostdev mode='subsystem' type='usb'><alias name='hostdev0'/></hostdev>", []),
    ],
)
def test_disks_of_every_kind(xml: str, listed: list[tuple[str, str | None]]) -> None:
    disks = restart.disks(f"<domain><devices>{xml}</devices></domain>")
    assert [(disk.label, disk.path) for disk in disks] == listed


@pytest.mark.parametrize(
    "nvram", ["<nvram>\n /vars.fd </nvram>", "<nvram type='file'><source file='/vars.fd'/></nvram>"]
)
def test_the_firmwares_variables_are_written_to(nvram: str) -> None:
    assert restart.disks(f"<domain><os>{nvram}</os></domain>") == (restart.Disk("/vars.fd", "/vars.fd"),)
