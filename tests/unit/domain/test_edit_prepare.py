"""Of any domain: prepare changes what the template asks for and nothing else; undo gives it back, to the byte."""

from __future__ import annotations

from random import Random

from hypothesis import assume, given
from hypothesis import strategies as st
from lxml import etree

from tests.unit.support.documents import QEMU, VIRTCPR, domains, normalised
from tests.unit.support.edits import drop, examples, is_ready, parsed, shape, transfer, without_what_prepare_touches
from virtcpr.domain.edit.prepare import Edited, undo

# What a document says, without the implementation.


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
    changes = root.findall(f".//{{{VIRTCPR}}}prepared/*")
    # Arguments that were there before, and say the same as what was put, can't be told from those.
    before = {argument.get("value") for argument in parsed(text).iterfind(f"{{{QEMU}}}commandline/{{{QEMU}}}arg")}
    assume(
        not before & {change.get("now", change.get("value", "")) for change in changes if change.get("path") is None}
    )
    for change in changes:
        # The arguments all or none: while the last one is as prepare put it, it changes none again.
        if arguments if change.get("path") is None else random.random() < 0.5:
            meddle(root, change)
    again = undo(transfer(etree.tostring(root, encoding="unicode")).text)
    assert shape(parsed(normalised(again.text))) == shape(parsed(normalised(text)))
    assert again.kept == ()


def meddle(root: etree._Element, change: etree._Element) -> None:
    arguments = root.iterfind(f"{{{QEMU}}}commandline/{{{QEMU}}}arg")
    put = change.get("now", change.get("value", ""))
    for argument in [item for item in arguments if item.get("value") == put][-1:]:
        argument.set("value", put.replace("aux-ram-share=on", "aux-ram-share=n"))
    for element in at(root, change.get("path", "none")):
        if str(change.tag).endswith("set"):
            element.set(change.get("attribute", ""), "other")
        elif element.tag in ("source", "access"):
            drop(element)


def at(root: etree._Element, path: str) -> list[etree._Element]:
    matches = root.xpath(path, namespaces={"qemu": QEMU, "virtcpr": VIRTCPR})
    assert isinstance(matches, list)
    return [match for match in matches if isinstance(match, etree._Element)]


# Each rule of the merge.
