"""prepare changes what the template asks for and nothing else; undo gives back what was there, to the byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from tests.unit.documents import QEMU, VIRTCPR, domains, normalised
from virtcpr.domain.edit.prepare import Edited, prepare, recorded, undo
from virtcpr.errors import ParseError

TRANSFER = (Path(__file__).parents[2] / "xml-templates/transfer.xml").read_text()
NAMESPACES = f'xmlns:qemu="{QEMU}" xmlns:virtcpr="{VIRTCPR}"'
examples = settings(deadline=None, max_examples=150)

# An element: its name with the namespace, its attributes, and what is in it.
Shape = tuple[str, tuple[tuple[str, str], ...], tuple[object, ...]]


def transfer(text: str) -> Edited:
    return prepare(text, TRANSFER, "transfer")


def parsed(text: str) -> etree._Element:
    return etree.fromstring(text.encode())


def template(body: str) -> str:
    return f"<domain {NAMESPACES}>{body}</domain>"


def domain(body: str) -> str:
    return f"<domain type='kvm' xmlns:qemu='{QEMU}'>{body}</domain>"


# What a document says, without the implementation.


def shape(element: etree._Element) -> Shape:
    """What stands there whatever the prefixes, quotes and white space are; comments and the like included."""
    words = tuple(sorted((str(name), str(value)) for name, value in element.attrib.items()))
    inside: list[object] = [" ".join((element.text or "").split())]
    elements = set(element.iterchildren(etree.Element))
    for child in element:
        inside.append(shape(child) if child in elements else (str(child), (), ()))
        inside.append(" ".join((child.tail or "").split()))
    return str(element.tag), words, tuple(one for one in inside if one)


def machine_words(root: etree._Element) -> Iterator[tuple[etree._Element, list[str]]]:
    """The values of -machine in an argument list that may be odd, cut at their commas."""
    left = [arg for line in root.findall(f"{{{QEMU}}}commandline") for arg in line.findall(f"{{{QEMU}}}arg")]
    while left:
        name = left.pop(0).get("value", "")
        if not name.startswith("-") or name == "-no-reboot" or not left:
            continue
        value = left.pop(0)
        if name in ("-M", "-machine", "--machine"):
            yield value, value.get("value", "").replace(",,", "\0").split(",")


def aux_ram_share(root: etree._Element) -> str | None:
    words = [word for _, words in machine_words(root) for word in words if word.partition("=")[0] == "aux-ram-share"]
    return (words[-1].partition("=")[2] or "on") if words else None


def is_ready(root: etree._Element) -> bool:
    source = root.find("memoryBacking/source")
    access = root.find("memoryBacking/access")
    assert source is not None
    assert access is not None
    kinds = ("memfd",) if root.find("memoryBacking/hugepages") is not None else ("memfd", "file")
    return (
        source.get("type") in kinds
        and access.get("mode") == "shared"
        and all(cell.get("memAccess") == "shared" for cell in root.iterfind("cpu/numa/cell"))
        and all(dimm.get("access") == "shared" for dimm in root.iterfind("devices/memory[@model='dimm']"))
        and aux_ram_share(root) in ("on", "yes", "true", "y")
    )


def without_what_prepare_touches(text: str) -> Shape:
    root = parsed(text)
    for value, words in [*machine_words(root)]:
        rest = ",".join(word for word in words if word.partition("=")[0] != "aux-ram-share")
        value.set("value", rest.replace("\0", ",,"))
        name = value.getprevious()
        if not rest and name is not None and name.get("value") == "-machine":
            drop(name)
            drop(value)
    for path, attribute in (
        ("memoryBacking/source", "type"),
        ("memoryBacking/access", "mode"),
        ("cpu/numa/cell", "memAccess"),
        ("devices/memory[@model='dimm']", "access"),
    ):
        for element in root.iterfind(path):
            element.attrib.pop(attribute, "")
    for path in (
        f"metadata/{{{VIRTCPR}}}domain/{{{VIRTCPR}}}prepared",
        f"metadata/{{{VIRTCPR}}}domain",
        "metadata",
        "memoryBacking/source",
        "memoryBacking/access",
        "memoryBacking",
        f"{{{QEMU}}}commandline",
    ):
        for element in root.findall(path):
            ours = path.endswith("}prepared") or not (len(element) or element.attrib or (element.text or "").strip())
            if ours:
                drop(element)
    return shape(root)


def drop(element: etree._Element) -> None:
    """Remove an element, not the text behind it."""
    parent, previous = element.getparent(), element.getprevious()
    assert parent is not None
    if previous is not None:
        previous.tail = (previous.tail or "") + (element.tail or "")
    else:
        parent.text = (parent.text or "") + (element.tail or "")
    parent.remove(element)


# What holds for every domain.


@given(domains())
@examples
def test_prepare_makes_every_domain_ready(text: str) -> None:
    assert is_ready(parsed(transfer(text).text))


@given(domains())
@examples
def test_a_second_prepare_changes_nothing(text: str) -> None:
    once = transfer(text)
    assert transfer(once.text) == Edited(once.text)


@given(domains())
@examples
def test_prepare_touches_nothing_else(text: str) -> None:
    assert without_what_prepare_touches(transfer(text).text) == without_what_prepare_touches(text)


@given(domains())
@examples
def test_undo_restores_every_byte(text: str) -> None:
    once = transfer(text)
    again = undo(once.text)
    assert again.text == text
    assert again.kept == ()
    assert bool(again.changes) == bool(once.changes)


@given(domains())
@examples
def test_undo_after_libvirt_wrote_the_document_its_own_way(text: str) -> None:
    again = undo(normalised(transfer(text).text))
    assert shape(parsed(normalised(again.text))) == shape(parsed(normalised(text)))
    assert again.kept == ()


@given(domains(), st.randoms(use_true_random=False), st.booleans())
@examples
def test_undo_gives_back_what_was_before_the_first_of_two(text: str, random: Random, arguments: bool) -> None:
    """Somebody takes back or removes some of what prepare put, in a document that libvirt wrote; then it runs again."""
    root = parsed(normalised(transfer(text).text))
    for change in root.findall(f".//{{{VIRTCPR}}}prepared/*"):
        # The arguments all or none: while the last one is as prepare put it, it changes none again.
        if arguments if change.get("path") is None else random.random() < 0.5:
            meddle(root, change)
    again = undo(transfer(etree.tostring(root, encoding="unicode")).text)
    assert shape(parsed(normalised(again.text))) == shape(parsed(normalised(text)))
    assert again.kept == ()


def meddle(root: etree._Element, change: etree._Element) -> None:
    arguments = root.iterfind(f"{{{QEMU}}}commandline/{{{QEMU}}}arg")
    put = change.get("now", change.get("value", ""))
    for argument in [one for one in arguments if one.get("value") == put][-1:]:
        argument.set("value", put.replace("aux-ram-share=on", "aux-ram-share=n"))
    for element in at(root, change.get("path", "none")):
        if str(change.tag).endswith("set"):
            element.set(change.get("attribute", ""), "other")
        elif element.tag in ("source", "access"):
            drop(element)


def at(root: etree._Element, path: str) -> list[etree._Element]:
    found = root.xpath(path, namespaces={"qemu": QEMU, "virtcpr": VIRTCPR})
    assert isinstance(found, list)
    return [one for one in found if isinstance(one, etree._Element)]


# Each rule of the merge.


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


def with_arguments(*words: str) -> str:
    written = "".join(f"<qemu:arg value='{word}'/>" for word in words)
    return domain(f"<qemu:commandline>{written}<qemu:env name='A'/></qemu:commandline>")


AUX = ("-machine", "aux-ram-share=on")
BODY = "<qemu:commandline><qemu:arg value='-machine'/><qemu:arg value='aux-ram-share=on'/></qemu:commandline>"


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
    found = [one.get("value") for one in parsed(edited.text).iter(f"{{{QEMU}}}arg")]
    assert found == list(after)
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
    )
    assert undo(transfer(MIXED).text).changes == (
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
    text = with_arguments("-M", "aux-ram-share=yes").replace("<qemu:commandline>", f"{backing}<qemu:commandline>")
    assert transfer(text) == Edited(text)


def test_undo_touches_no_argument_that_prepare_did_not() -> None:
    once = prepare(with_arguments(*AUX, "-M", "aux-ram-share=off"), template(BODY), "test").text
    start, found, end = once.rpartition("<qemu:arg value='aux-ram-share=on'/>")
    between = f"{start}{found.replace('=on', '=n')}{end}"
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


# What is refused.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<domain><a></domain>", "the XML is not well-formed: mismatched tag (line 1)"),
        ("<network/>", "a template starts with <domain>, this one with <network>"),
        ("<domain type='kvm'/>", "a template's <domain> has no attributes of its own but virtcpr:unless"),
        (template("<a virtcpr:unless='['/>"), "'[' is not an XPath expression: Invalid expression"),
        (template("<a virtcpr:each='n()'/>"), "the XPath expression 'n()' can't be evaluated: Unregistered function"),
        (template("<a virtcpr:each='1'/>"), "the XPath expression '1' finds no elements"),
        (template("<a virtcpr:each='@type'/>"), "the XPath expression '@type' finds something that is no element"),
        (
            template("<a virtcpr:each='qemu:x' b='c'/>"),
            f"the XPath expression 'qemu:x' finds <{{{QEMU}}}x>, which a template can't change",
        ),
        (template("<a>text</a>"), "<a>: there is text in it; a template has elements and attributes only"),
        (
            template("<a qemu:b='c'/>"),
            f"<a>: the attribute {{{QEMU}}}b has a namespace that means nothing in a template",
        ),
        (template("<x xmlns='urn:x'/>"), "<x> is of the namespace urn:x, which virtcpr knows nothing of"),
        (
            template("<qemu:override/>"),
            "<qemu:override>: of this namespace a template has <qemu:commandline> only, with <qemu:arg> in it",
        ),
        (
            template("<a><qemu:commandline/></a>"),
            "<qemu:commandline> stands in <domain>, and has no attribute but virtcpr:unless",
        ),
        (
            template("<qemu:commandline><qemu:env/></qemu:commandline>"),
            "<qemu:commandline>: a template has only <qemu:arg value='…'/> in it",
        ),
        (
            template("<qemu:commandline><qemu:arg value='-machine'/></qemu:commandline>"),
            "<qemu:commandline>: an odd number of <qemu:arg>, 1; each option needs its value",
        ),
        (
            template(BODY.replace("-machine", "-snapshot")),
            "<qemu:commandline>: '-snapshot' is not an option that takes a value, such as -machine",
        ),
        (
            template(BODY.replace("aux-ram-share=on", "q35")),
            "<qemu:commandline>: '-machine q35' is not of the form -machine property=value,…",
        ),
        (
            template("<a b='1'/><a b='2'/>"),
            "the template contradicts itself: a: b '2' → '1' would undo what it did before",
        ),
    ],
)
def test_templates_that_are_refused(text: str, said: str) -> None:
    with pytest.raises(ParseError) as caught:
        prepare(domain("<qemu:x/>"), text, "test")
    assert caught.value.message == said


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("<virtcpr:prepared/>", "<prepared> has no mode"),
        ("<virtcpr:prepared mode='a'/><virtcpr:prepared mode='b'/>", "there is more than one"),
        ("<virtcpr:prepared mode='a' ending='x'/>", "<prepared>: no tag ends with 'x'"),
        ("<virtcpr:prepared mode='a'><virtcpr:x/></virtcpr:prepared>", "it has <x> in it"),
        ("<virtcpr:prepared mode='a'><set/></virtcpr:prepared>", "it has <set> of another namespace in it"),
        ("<virtcpr:prepared mode='a'><virtcpr:set/></virtcpr:prepared>", "<set> has no path"),
        (
            "<virtcpr:prepared mode='a'><virtcpr:set path='//a'/></virtcpr:prepared>",
            "'//a' is not a path of elements",
        ),
        (
            "<virtcpr:prepared mode='a'><virtcpr:set path='a' attribute='a b' now='c'/></virtcpr:prepared>",
            "<set>: 'a b' is not a name",
        ),
        (
            "<virtcpr:prepared mode='a'><virtcpr:set path='a' attribute='b' was='&lt;' now='c'/></virtcpr:prepared>",
            "'<' can't be the text of an attribute",
        ),
        (
            "<virtcpr:prepared mode='a'><virtcpr:argument was='a' now='b' before='-1'/></virtcpr:prepared>",
            "<argument>: '-1' is not a count",
        ),
        (
            "<virtcpr:prepared mode='a'><virtcpr:added path='.'/></virtcpr:prepared>",
            "<added> names the root element",
        ),
        (
            "<virtcpr:prepared mode='a'><virtcpr:added path='a'><virtcpr:set/></virtcpr:added></virtcpr:prepared>",
            "<added> has <set> in it",
        ),
        (
            "<virtcpr:prepared mode='a'><virtcpr:added path='a'><b/></virtcpr:added></virtcpr:prepared>",
            "it has <b> of another namespace in it",
        ),
    ],
)
def test_records_that_are_refused(record: str, said: str) -> None:
    text = domain(f"<metadata><virtcpr:domain xmlns:virtcpr='{VIRTCPR}'>{record}</virtcpr:domain></metadata>")
    for act in (transfer, undo, recorded):
        with pytest.raises(ParseError) as caught:
            act(text)
        assert caught.value.message == f"the record of what prepare changed in the domain makes no sense: {said}"
        assert caught.value.hint == (
            "Correct <virtcpr:prepared> in the domain's <metadata>, or remove it: undo then does nothing."
        )
