"""XML text edited in place: every edit changes what it names, and its opposite gives back every byte."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from tests.unit.support.documents import domains
from virtcpr.domain.edit.document import Document, New, escape, parse_domain, unescape
from virtcpr.errors import ParseError

examples = settings(deadline=None, max_examples=100)
VALUES = st.text(st.sampled_from("aé<>&'\"\t\n\r ]"), max_size=8)
BOMBS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


def elements(document: Document) -> list[etree._Element]:
    return list(document.root.iter(etree.Element))


def same_place(document: Document, element: etree._Element, edited: Document) -> etree._Element:
    """The element in the edited document that comes as the same one in order."""
    return elements(edited)[elements(document).index(element)]


@given(domains())
@examples
def test_every_attribute_is_found(text: str) -> None:
    document = Document.parse(text)
    for element in elements(document):
        for name, value in element.attrib.items():
            local = etree.QName(name).localname
            prefixes = [f"{prefix}:" for prefix in element.nsmap] if str(name).startswith("{") else [""]
            assert str(value) in [
                unescape(raw) for prefix in prefixes if (raw := document.raw(element, prefix + local)) is not None
            ]
        assert document.raw(element, "none") is None


@given(domains(), st.data(), VALUES)
@examples
def test_an_attribute_is_set_and_put_back(text: str, data: st.DataObject, value: str) -> None:
    document = Document.parse(text)
    element = data.draw(st.sampled_from(elements(document)))
    names = [str(name) for name in element.attrib if not str(name).startswith("{")]
    name = data.draw(st.sampled_from([*names, "new"]))
    edited = document.set(element, name, value)
    target = same_place(document, element, edited)
    assert target.get(name) == value
    assert [str(attribute) for attribute in target.attrib] == [
        *map(str, element.attrib),
        *([] if name in names else ["new"]),
    ]
    raw = document.raw(element, name)
    assert (edited.unset(target, name) if raw is None else edited.put(target, name, raw)).text == text


@given(domains(), st.data(), VALUES)
@examples
def test_elements_are_inserted_and_removed(text: str, data: st.DataObject, value: str) -> None:
    document = Document.parse(text)
    parent = data.draw(st.sampled_from(elements(document)))
    children = list(parent.iterchildren(etree.Element))
    after = data.draw(st.sampled_from([None, *children]))
    new = [New("new", {"a": value}, [New("inner"), New("inner", {"b": value})]), New("new2")]
    edited = document.insert(parent, new, after)
    target = same_place(document, parent, edited)
    place = 0 if after is None else children.index(after) + 1
    inserted = list(target.iterchildren(etree.Element))[place : place + 2]
    assert [etree.QName(element).localname for element in inserted] == ["new", "new2"]
    assert inserted[0].get("a") == inserted[0][1].get("b") == value
    assert len(list(target.iterchildren(etree.Element))) == len(children) + 2
    assert edited.remove(inserted, document.ending(parent)).text == text


@given(VALUES)
@examples
def test_a_value_is_the_same_after_escaping(value: str) -> None:
    assert unescape(escape(value)) == value
    assert "'" not in escape(value)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<d><a/></d>", "<d><a n='v'/></d>"),
        ("<d><a /></d>", "<d><a n='v' /></d>"),
        ("<d><a></a ></d>", "<d><a n='v'></a ></d>"),
        ("<d><a x='>' y = \"/>'\"\n/></d>", "<d><a x='>' y = \"/>'\" n='v'\n/></d>"),
        ('<d><a n="é"/></d>', '<d><a n="v"/></d>'),
        ("<d><a n\n=\r\n'1'/></d>", "<d><a n\n=\r\n'v'/></d>"),
        ("<d><!-- <a n='1'/> --><?x <a/>?><a/></d>", "<d><!-- <a n='1'/> --><?x <a/>?><a n='v'/></d>"),
        ("<d>é<![CDATA[<a/>é]]><a/></d>", "<d>é<![CDATA[<a/>é]]><a n='v'/></d>"),
        (
            "\ufeff<?xml version='1.0'?>\n<!--é--><d><a/></d>\n<!-- z -->",
            "\ufeff<?xml version='1.0'?>\n<!--é--><d><a n='v'/></d>\n<!-- z -->",
        ),
        ("<d xmlns:p='u'><p:n p:n='1'/><a p:n='1'/></d>", "<d xmlns:p='u'><p:n p:n='1'/><a p:n='1' n='v'/></d>"),
    ],
)
def test_setting_an_attribute(before: str, after: str) -> None:
    document = Document.parse(before)
    (element,) = document.root.iter("a")
    assert document.set(element, "n", "v").text == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<d/>", "<d>\n  <n/>\n</d>"),
        ("<d />", "<d>\n  <n/>\n</d>"),
        ("<d></d>", "<d>\n  <n/>\n</d>"),
        ("<d x='1'\n></d >", "<d x='1'\n>\n  <n/>\n</d >"),
        ("<d><a/></d>", "<d><a/><n/></d>"),
        ("<d>\n\t<a/>\n</d>", "<d>\n\t<a/>\n\t<n/>\n</d>"),
        ("<d>\r\n <a/>\r\n</d>", "<d>\r\n <a/>\r\n <n/>\r\n</d>"),
        ("<d>\n  <a/> <!-- its remark -->\n</d>", "<d>\n  <a/> <!-- its remark -->\n  <n/>\n</d>"),
        ("<d>\n  <a/>\n\n  <b/><c/>\n</d>", "<d>\n  <a/>\n\n  <b/><c/>\n  <n/>\n</d>"),
        ("<d>\n  <a/>text</d>", "<d>\n  <a/>\n  <n/>text</d>"),
        ("<p:d xmlns:p='u'/>", "<p:d xmlns:p='u'>\n  <n/>\n</p:d>"),
    ],
)
def test_inserting_the_last_child(before: str, after: str) -> None:
    document = Document.parse(before)
    last = next(document.root.iterchildren(etree.Element, reversed=True), None)
    edited = document.insert(document.root, [New("n")], last)
    assert edited.text == after
    (new,) = edited.root.iter("n")
    assert edited.remove([new], document.ending(document.root)).text == before


def test_a_parent_that_is_not_empty_keeps_its_end_tag() -> None:
    document = Document.parse("<d><n/><!-- c --></d>")
    assert document.remove([document.root[0]], "/>").text == "<d><!-- c --></d>"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the XML is empty"),
        ("\ufeff \n", "the XML is empty"),
        ("<a>\n</b>", "the XML is not well-formed: mismatched tag (line 2)"),
        ("<a>\n<x:b/></a>", "the XML is not well-formed: Namespace prefix x on b is not defined (line 2)"),
        ("<a>\n&b;</a>", "the XML is not well-formed: undefined entity (line 2)"),
        ("<a>\n\ud800</a>", "the XML is not well-formed: a character that XML doesn't allow (line 2)"),
        (
            "<?xml version='1.0' encoding='latin1'?><a/>",
            "the XML declares the encoding latin1; virtcpr reads UTF-8 only",
        ),
        (
            "<?xml version='1.0' encoding='UTF-16'?><a/>",
            "the XML declares the encoding UTF-16; virtcpr reads UTF-8 only",
        ),
        (
            "<?xml version='1.0' encoding='us-ascii'?><a>é</a>",
            "the XML is not well-formed: not well-formed (invalid token) (line 1)",
        ),
    ],
)
def test_what_can_not_be_read(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        Document.parse(text)
    assert caught.value.message == message


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-8", "US-ASCII"])
def test_encodings_that_are_read(encoding: str) -> None:
    Document.parse(f"<?xml version='1.0' encoding='{encoding}'?><a/>")


@pytest.mark.parametrize(
    "text",
    [
        "\n<!DOCTYPE domain>\n<domain type='kvm'/>",
        "<!--\n--><!DOCTYPE domain [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain type='kvm'>&x;</domain>",
        "<?p\n?><!DOCTYPE domain SYSTEM 'http://127.0.0.1/x.dtd'><domain type='kvm'/>",
        f"\ufeff\n<!DOCTYPE domain [<!ENTITY l0 'ha'>{BOMBS}]><domain type='kvm'>&l9;</domain>",
    ],
    ids=["plain", "external entity", "external subset", "billion laughs"],
)
def test_a_document_type_is_refused_at_once(text: str) -> None:
    start = time.monotonic()
    with pytest.raises(ParseError) as caught:
        parse_domain(text)
    assert time.monotonic() - start < 1
    assert caught.value.message == (
        "the XML has a document type (<!DOCTYPE>, line 2); virtcpr reads only XML without one, as it resolves no "
        "entities and no references to other files"
    )


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ParseError, match="the XML is not well-formed: "):
        Document.parse("<a>" * 5000 + "</a>" * 5000)


@pytest.mark.parametrize("kind", ["qemu", "kvm", "hvf"])
def test_a_domain_of_qemu_s_is_read(kind: str) -> None:
    assert parse_domain(f"<domain type='{kind}'/>").root.tag == "domain"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "<domstatus><domain type='kvm'/></domstatus>",
            "this is not a domain's XML but libvirt's status file of a running domain, <domstatus>",
        ),
        ("<domainsnapshot/>", "this is not a domain's XML but a snapshot of a domain, <domainsnapshot>"),
        ("<network/>", "this is not a domain's XML but a network, <network>"),
        ("<x/>", "this is not a domain's XML but <x>"),
        ("<domain xmlns='urn:x'/>", "this is not a domain's XML but <domain> of urn:x"),
        ("<domain/>", "the domain has no type; virtcpr works on domains of type qemu, kvm or hvf"),
        ("<domain type='xen'/>", "the domain is of type 'xen'; virtcpr works on domains of type qemu, kvm or hvf"),
        ("<domain type='lxc'/>", "the domain is of type 'lxc'; virtcpr works on domains of type qemu, kvm or hvf"),
    ],
)
def test_what_is_no_domain(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_domain(text)
    assert caught.value.message == message
