"""Of any domain: prepare changes what the template asks for and nothing else; undo gives it back, to the byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lxml import etree

from tests.unit.documents import QEMU, VIRTCPR, domains, normalised
from virtcpr.domain.edit.prepare import Edited, prepare, undo

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


def options(root: etree._Element) -> Iterator[tuple[str, etree._Element]]:
    """The options that have a value, with it, of an argument list that may be odd."""
    left = [arg for line in root.findall(f"{{{QEMU}}}commandline") for arg in line.findall(f"{{{QEMU}}}arg")]
    while left:
        name = left.pop(0).get("value", "")
        if not name.startswith("-") or name == "-no-reboot" or not left:
            continue
        yield name, left.pop(0)


def machine_words(root: etree._Element) -> Iterator[tuple[etree._Element, list[str]]]:
    """The values of -machine, cut at their commas."""
    for name, value in options(root):
        if name in ("-M", "-machine", "--machine"):
            yield value, value.get("value", "").replace(",,", "\0").split(",")


def boot_roms_are_left(root: etree._Element) -> bool:
    """Whether an interface has one that the domain doesn't boot from."""
    if root.find("os/boot[@dev='network']") is not None or root.find("devices/interface/boot") is not None:
        return False
    taken = {value.get("value") for name, value in options(root) if name == "-global"}
    models = {model.get("type") for model in root.iterfind("devices/interface/model")}
    wanted = {f"{'virtio-net-pci-base' if one == 'virtio' else one}.romfile=" for one in models | {"virtio"}}
    return not wanted <= taken


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
        and not boot_roms_are_left(root)
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
    for word, value in [*options(root)]:
        name = value.getprevious()
        if word == "-global" and value.get("value", "").endswith(".romfile=") and name is not None:
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
