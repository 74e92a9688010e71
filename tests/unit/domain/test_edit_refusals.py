"""Templates and records of prepare that are none: each is refused with what is wrong in it."""

from __future__ import annotations

import pytest

from tests.unit.support.documents import QEMU, VIRTCPR
from tests.unit.support.edits import BODY, domain, template, transfer
from virtcpr.domain.edit.prepare import prepare, recorded, undo
from virtcpr.errors import ParseError


@pytest.mark.parametrize(
    ("text", "message"),
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
        (template("<x xmlns='urn:x'/>"), "<x> is of the namespace urn:x, which virtcpr doesn't know"),
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
def test_templates_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        prepare(domain("<qemu:x/>"), text, "test")
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("<virtcpr:prepared/>", "<prepared> has no mode"),
        ("<virtcpr:prepared mode='a'/><virtcpr:prepared mode='b'/>", "there is more than one record"),
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
def test_records_that_are_refused(record: str, message: str) -> None:
    text = domain(f"<metadata><virtcpr:domain xmlns:virtcpr='{VIRTCPR}'>{record}</virtcpr:domain></metadata>")
    for act in (transfer, undo, recorded):
        with pytest.raises(ParseError) as caught:
            act(text)
        assert caught.value.message == f"the record of prepare's changes in the domain is invalid: {message}"
        assert caught.value.hint == (
            "Correct <virtcpr:prepared> in the domain's <metadata>, or remove it: undo then does nothing."
        )
