"""Templates, and documents that they are merged into."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import settings
from lxml import etree

from tests.paths import ROOT
from tests.unit.support.documents import QEMU, VIRTCPR
from virtcpr.domain.edit.prepare import Edited, prepare

TRANSFER = (ROOT / "xml-templates/transfer.xml").read_text()
NAMESPACES = f'xmlns:qemu="{QEMU}" xmlns:virtcpr="{VIRTCPR}"'
examples = settings(deadline=None, max_examples=150)

BODY = "<qemu:commandline><qemu:arg value='-machine'/><qemu:arg value='aux-ram-share=on'/></qemu:commandline>"

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


def drop(element: etree._Element) -> None:
    """Remove an element, not the text behind it."""
    parent, previous = element.getparent(), element.getprevious()
    assert parent is not None
    if previous is not None:
        previous.tail = (previous.tail or "") + (element.tail or "")
    else:
        parent.text = (parent.text or "") + (element.tail or "")
    parent.remove(element)


def shape(element: etree._Element) -> Shape:
    """What stands there whatever the prefixes, quotes and white space are; comments and the like included."""
    words = tuple(sorted((str(name), str(value)) for name, value in element.attrib.items()))
    inside: list[object] = [" ".join((element.text or "").split())]
    elements = set(element.iterchildren(etree.Element))
    for child in element:
        inside.append(shape(child) if child in elements else (str(child), (), ()))
        inside.append(" ".join((child.tail or "").split()))
    return str(element.tag), words, tuple(one for one in inside if one)


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


def with_arguments(*words: str) -> str:
    written = "".join(f"<qemu:arg value='{word}'/>" for word in words)
    return domain(f"<qemu:commandline>{written}<qemu:env name='A'/></qemu:commandline>")


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
