"""The rules by which a template is merged, recorded and undone, one by one."""

from __future__ import annotations

import pytest
from lxml import etree

from tests.unit.support.documents import QEMU, VIRTCPR
from tests.unit.support.edits import BODY, domain, drop, parsed, template, transfer, with_arguments
from virtcpr.domain.edit.prepare import Edited, prepare, recorded, undo


def made(text: str, body: str) -> str:
    """What a template makes of a domain, without the record."""
    edited = prepare(text, template(body), "test")
    root = parsed(edited.text)
    for element in root.findall("metadata"):
        drop(element)
    assert undo(edited.text).text == text
    return etree.tostring(root, encoding="unicode").replace(f' xmlns:qemu="{QEMU}"', "").replace('"', "'")


@pytest.mark.parametrize(
    ("before", "body", "after"),
    [
        pytest.param("<a/>", "<b c='1'><d e='2'/></b>", "<a/><b c='1'><d e='2'/></b>", id="missing"),
        pytest.param("<b c='0' f='3'/>", "<b c='1'/>", "<b c='1' f='3'/>", id="attribute"),
        pytest.param("<b><x/></b><b/>", "<b><d e='2'/></b>", "<b><x/><d e='2'/></b><b/>", id="first match"),
        pytest.param("<b e='x'/>", "<b virtcpr:unless=\"b[@e='x']\" e='y'/>", "<b e='x'/>", id="unless holds"),
        pytest.param("<b e='z'/>", "<b virtcpr:unless=\"b[@e='x']\" e='y'/>", "<b e='y'/>", id="unless doesn't hold"),
        pytest.param("", "<b><c virtcpr:unless='true()'/></b>", "", id="no empty shell"),
        pytest.param("", "<b virtcpr:each='n/b' e='y'/>", "", id="each creates none"),
        pytest.param(
            "<n><b/><b e='x'/><c/></n>",
            "<b virtcpr:each='n/b' e='y'><d/></b>",
            "<n><b e='y'><d/></b><b e='y'><d/></b><c/></n>",
            id="each",
        ),
        pytest.param(
            "<memory>1</memory><currentMemory>1</currentMemory><os/>",
            "<memoryBacking/>",
            "<memory>1</memory><currentMemory>1</currentMemory><memoryBacking/><os/>",
            id="place",
        ),
        pytest.param("", "<!-- c --><?p?>", "", id="comments"),
    ],
)
def test_elements(before: str, body: str, after: str) -> None:
    expected = etree.tostring(parsed(domain(after)), encoding="unicode").replace(f' xmlns:qemu="{QEMU}"', "")
    assert made(domain(before), body) == expected.replace('"', "'")


AUX = ("-machine", "aux-ram-share=on")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((), AUX),
        (("-name", "x"), ("-name", "x", *AUX)),
        (AUX, AUX),
        (("-M", "q35,aux-ram-share=yes"), ("-M", "q35,aux-ram-share=yes")),
        (("--machine", "q35,aux-ram-share"), ("--machine", "q35,aux-ram-share")),
        (("-machine", "aux-ram-share"), ("-machine", "aux-ram-share")),
        (("-machine", "a=b,,c,aux-ram-share=off,d"), ("-machine", "a=b,,c,aux-ram-share=on,d")),
        (("-machine", "aux-ram-share=off", *AUX), ("-machine", "aux-ram-share=off", *AUX)),
        ((*AUX, "-M", "aux-ram-share=n"), (*AUX, "-M", "aux-ram-share=on")),
        (("-M", "aux-ram-share=no", "-M", "aux-ram-share=n"), ("-M", "aux-ram-share=on", "-M", "aux-ram-share=on")),
        (("-name", "-machine", "aux-ram-share=on"), ("-name", "-machine", "aux-ram-share=on", *AUX)),
        (("-snapshot", *AUX), ("-snapshot", *AUX)),
        (("-machine", "{broken"), ("-machine", "{broken", *AUX)),
        (("-foo",), (*AUX, "-foo")),
        (("stray", "-name", "x", "-machine"), ("stray", "-name", "x", *AUX, "-machine")),
    ],
)
def test_options(before: tuple[str, ...], after: tuple[str, ...]) -> None:
    edited = prepare(with_arguments(*before), template(BODY), "test")
    values = [argument.get("value") for argument in parsed(edited.text).iter(f"{{{QEMU}}}arg")]
    assert values == list(after)
    assert len(list(parsed(edited.text).iter(f"{{{QEMU}}}env"))) == 1
    assert undo(edited.text).text == with_arguments(*before)


def test_options_that_qemu_does_not_merge_are_compared_whole() -> None:
    body = "<qemu:commandline><qemu:arg value='-device'/><qemu:arg value='a,id=b'/></qemu:commandline>"
    once = prepare(with_arguments("-device", "a,id=c"), template(body), "test")
    assert once.changes == ("added qemu:commandline -device a,id=b",)
    assert prepare(once.text, template(body), "test").changes == ()


def test_several_properties_of_one_option() -> None:
    body = BODY.replace("share=on", "share=on,x=a,,b,usb=off")
    once = prepare(with_arguments("-M", "usb=no"), template(body), "test")
    assert once.changes == ("added qemu:commandline -machine aux-ram-share=on,x=a,,b",)


@pytest.mark.parametrize(
    ("root", "line", "expected"),
    [
        ("", "", "<qemu:commandline><qemu:arg"),
        (f" xmlns:q='{QEMU}'", "", "<q:commandline><q:arg"),
        (" xmlns:qemu='urn:other'", "", "<qemu2:commandline><qemu2:arg"),
        ("", f"<commandline xmlns='{QEMU}'/>", f"<commandline xmlns='{QEMU}'><arg"),
    ],
)
def test_the_prefix_is_the_document_s(root: str, line: str, expected: str) -> None:
    text = f"<domain type='kvm'{root}><name>x</name>{line}</domain>"
    edited = prepare(text, template(BODY), "test")
    assert expected in edited.text
    assert undo(edited.text).text == text


def test_new_elements_are_indented_like_the_rest() -> None:
    text = '<domain type="kvm">\r\n\t<name>x</name>\r\n\t<memory>1</memory>\r\n\t<memoryBacking />\r\n</domain>'
    edited = transfer(text)
    assert (
        "\r\n\t<memoryBacking>\r\n\t\t<source type='memfd'/>\r\n\t\t<access mode='shared'/>\r\n\t</memoryBacking>\r\n"
        in (edited.text)
    )
    assert (
        "</name>\r\n\t<metadata>\r\n\t\t<virtcpr:domain xmlns:virtcpr='urn:virtcpr:domain:1'>\r\n\t\t\t<virt"
        in edited.text
    )
    assert edited.text.count("\n") == edited.text.count("\r\n")


def test_a_new_memory_backing_comes_after_the_memory_s_remark() -> None:
    text = "<domain type='kvm'>\n  <memory>1</memory> <!-- remark -->\n  <os/>\n</domain>"
    assert "<!-- remark -->\n  <memoryBacking>" in transfer(text).text


# What is said, and recorded.

MIXED = """<domain type='kvm'>
  <name>x</name>
  <memoryBacking>
    <access mode="private"/>
  </memoryBacking>
  <cpu><numa><cell id='0'/><cell id='1' memAccess='shared'/></numa></cpu>
</domain>
"""


def test_changes_are_said() -> None:
    assert transfer(MIXED).changes == (
        "added memoryBacking/source type='memfd'",
        "memoryBacking/access: mode 'private' → 'shared'",
        "cpu/numa/cell[@id='0']: memAccess='shared' added",
        "added qemu:commandline",
        "added qemu:commandline -machine aux-ram-share=on",
        "added qemu:commandline -global virtio-net-pci-base.romfile=",
    )
    assert undo(transfer(MIXED).text).changes == (
        "removed qemu:commandline -global virtio-net-pci-base.romfile=",
        "removed qemu:commandline -machine aux-ram-share=on",
        "removed qemu:commandline",
        "cpu/numa/cell[@id='0']: memAccess='shared' removed",
        "memoryBacking/access: mode 'shared' → 'private'",
        "removed memoryBacking/source type='memfd'",
    )


def test_the_mode_is_recorded() -> None:
    assert recorded(MIXED) is None
    once = transfer(MIXED).text
    assert recorded(once) == "transfer"
    again = prepare(once, template("<new/>"), "other").text
    assert recorded(again) == "other"
    assert undo(again).text == MIXED


def test_a_domain_that_is_ready_stays_as_it_is() -> None:
    backing = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
    roms = ("-global", "virtio-net-pci-base.romfile=")
    text = with_arguments("-M", "aux-ram-share=yes", *roms).replace(
        "<qemu:commandline>", f"{backing}<qemu:commandline>"
    )
    assert transfer(text) == Edited(text)


def test_undo_touches_no_argument_that_prepare_did_not() -> None:
    once = prepare(with_arguments(*AUX, "-M", "aux-ram-share=off"), template(BODY), "test").text
    start, separator, end = once.rpartition("<qemu:arg value='aux-ram-share=on'/>")
    between = f"{start}{separator.replace('=on', '=n')}{end}"
    again = undo(prepare(between, template(BODY), "test").text)
    assert again == undo(once)
    assert again.text == with_arguments(*AUX, "-M", "aux-ram-share=off")


def test_undo_without_a_record_changes_nothing() -> None:
    assert undo(MIXED) == Edited(MIXED)


def test_settings_in_virtcpr_s_own_element_stay() -> None:
    own = f"<metadata><virtcpr:domain xmlns:virtcpr='{VIRTCPR}'><virtcpr:skip/></virtcpr:domain></metadata>"
    edited = transfer(domain(own))
    assert edited.text.count("<virtcpr:domain") == 1
    assert undo(edited.text).text == domain(own)


@pytest.mark.parametrize(
    ("put", "instead", "kept"),
    [
        ("<source type='memfd'/>", "<source type='file'/>", "memoryBacking/source: it stays, its type changed since"),
        (
            "<source type='memfd'/>",
            "<source type='memfd'><x/></source>",
            "memoryBacking/source: it stays, something else is in it now",
        ),
        ("<source type='memfd'/>", "", None),
        ('<access mode="shared"/>', "", "memoryBacking/access: the element is gone, so is its mode"),
        (
            '<access mode="shared"/>',
            '<access mode="x"/>',
            "memoryBacking/access: mode was 'shared', and is 'x' now",
        ),
        ('<access mode="shared"/>', '<access mode="private"/>', None),
        (
            '<access mode="shared"/>',
            "<access/>",
            "memoryBacking/access: mode was 'shared', and is no longer there",
        ),
        ("<cell id='0' memAccess='shared'/>", "<cell id='0'/>", None),
        (
            "    <qemu:arg value='aux-ram-share=on'/>",
            "    <qemu:arg value='aux-ram-share=on,x=y'/>",
            "qemu:commandline: -machine aux-ram-share=on is not there any more",
        ),
        (
            "</qemu:commandline>",
            "<qemu:env name='A'/></qemu:commandline>",
            "qemu:commandline: it stays, something else is in it now",
        ),
    ],
)
def test_undo_leaves_alone_what_changed_since(put: str, instead: str, kept: str | None) -> None:
    once = transfer(MIXED).text
    assert once.count(put) == 1
    again = undo(once.replace(put, instead))
    assert again.kept[:1] == (() if kept is None else (kept,))
    assert instead in again.text or kept is None
    assert "prepared" not in again.text


def test_undo_leaves_an_argument_alone_that_changed_since() -> None:
    once = prepare(with_arguments("-M", "x,aux-ram-share=off"), template(BODY), "test").text
    for instead, kept in (
        ("x,y", ("qemu:commandline: 'x,aux-ram-share=on' is not there any more",)),
        ("x,aux-ram-share=off", ()),
    ):
        changed = once.replace("<qemu:arg value='x,aux-ram-share=on'", f"<qemu:arg value='{instead}'")
        assert undo(changed).kept == kept
        assert undo(changed).text == with_arguments("-M", instead)


def test_undo_leaves_what_stands_beside_the_record() -> None:
    once = transfer(domain("<name>x</name>")).text
    edited = once.replace("<metadata>", "<metadata><a:a xmlns:a='urn:a'/>").replace(
        "</virtcpr:domain>", "<!-- c --></virtcpr:domain>"
    )
    again = undo(edited)
    own = f"<virtcpr:domain xmlns:virtcpr='{VIRTCPR}'><!-- c --></virtcpr:domain>"
    assert again.text == domain(f"<name>x</name><metadata><a:a xmlns:a='urn:a'/>{own}</metadata>")
    assert again.kept == ()


def test_a_prefix_that_is_in_use_stays_declared() -> None:
    once = transfer("<domain type='kvm'><name>x</name></domain>").text
    again = undo(once.replace("</domain>", "<qemu:capabilities/></domain>"))
    assert again.text == domain("<name>x</name><qemu:capabilities/>")


def test_an_earlier_value_comes_back_with_its_own_references() -> None:
    text = domain("<a b=\" 1 &amp;&#x41; 'x'\n>\"/>")
    once = prepare(text, template("<a b='2'/>"), "test")
    assert once.changes == ("a: b ' 1 &A 'x' >' → '2'",)
    assert undo(once.text).text == text
    assert undo(once.text.replace('b="2"', "b='2'")).text == text.replace("'x'", "&apos;x&apos;").replace(
        'b="', "b='"
    ).replace('"/>', "'/>")


def test_dimms_are_told_apart() -> None:
    alias = "<memory model='dimm'><alias name='ua-x'/></memory>"
    edited = transfer(domain(f"<devices><memory model='dimm'/>{alias}<memory model='nvdimm'/></devices>"))
    assert "devices/memory[1]: access='shared' added" in edited.changes
    assert "devices/memory[alias/@name='ua-x']: access='shared' added" in edited.changes
    assert not any("memory[3]" in change for change in edited.changes)
