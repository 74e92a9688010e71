"""What a template asks for and a domain lacks: one edit after another, until nothing is missing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from virtcpr.domain.argv import Option
from virtcpr.domain.edit.arguments import (
    ARG,
    COMMANDLINE,
    arguments,
    changed,
    last,
    option,
    pairs,
    properties_of,
    same,
    value_of,
    word,
)
from virtcpr.domain.edit.changes import AddedElement, AddedOption, Change, ChangedArgument, Declared, SetAttribute
from virtcpr.domain.edit.document import Document, New
from virtcpr.domain.edit.fragment import Part
from virtcpr.domain.edit.paths import path_of, shown
from virtcpr.domain.xml import QEMU_NS
from virtcpr.errors import ParseError

# The elements that libvirt writes before these; every other element goes last.
AFTER = {
    "metadata": ("name", "uuid", "genid", "title", "description"),
    "memoryBacking": ("memory", "maxMemory", "currentMemory"),
}


@dataclass(frozen=True)
class Step:
    """One edit: the document before it and after it."""

    before: Document
    change: Change
    after: Document


def ensure(document: Document, template: Part) -> Iterator[Step]:
    """The edits that make the document match the template.  Raises ParseError if they never end."""
    seen = {document.text}
    while (step := next(_missing(document, template), None)) is not None:
        yield step
        document = step.after
        if document.text in seen:
            raise ParseError(
                f"the template contradicts itself: {step.change.described()} would undo what it did before"
            )
        seen.add(document.text)


def _missing(document: Document, template: Part) -> Iterator[Step]:
    """The edits that are missing now.  Only the first counts: after it everything is checked again."""
    if not template.skipped(document.root):
        yield from _merge(document, template, document.root)


def _merge(document: Document, part: Part, element: etree._Element) -> Iterator[Step]:
    for name, value in part.attributes.items():
        if element.get(name) != value:
            change = SetAttribute(path_of(element, part.attributes), name, document.raw(element, name), value)
            yield Step(document, change, document.set(element, name, value))
    for child in part.children:
        if child.skipped(document.root):
            continue
        if child.each is not None:
            for match in child.each.elements(document.root):
                yield from _merge(document, child, match)
        elif child.tag == COMMANDLINE:
            yield from _options(document, child)
        else:
            existing = next(element.iterchildren(child.tag), None)
            if existing is not None:
                yield from _merge(document, child, existing)
            elif child.creates(document.root):
                yield add(document, element, child)


def add(document: Document, parent: etree._Element, part: Part) -> Step:
    """Add an element without its children, at the right place."""
    path = path_of(parent)
    path = shown(part.tag) if path == "." else f"{path}/{shown(part.tag)}"
    change = AddedElement(path, part.attributes, document.ending(parent))
    after = _place(parent, part.tag)
    return Step(
        document, change, document.insert(parent, [New(etree.QName(part.tag).localname, part.attributes)], after)
    )


def _place(parent: etree._Element, tag: str) -> etree._Element | None:
    """The child after which a new element of this name goes."""
    children = list(parent.iterchildren(etree.Element))
    before = [child for child in children if child.tag in AFTER.get(tag, ())] if parent.getparent() is None else []
    return next(reversed(before or children), None)


def _options(document: Document, part: Part) -> Iterator[Step]:
    for name, value in part.options:
        wanted = option(name, value)
        if wanted.name == "machine":
            yield from _properties(document, name, wanted)
        elif all(pair.option != wanted for pair in pairs(document.root)):
            taken = _namesake(document, wanted)
            yield _append(document, name, value) if taken is None else _change(document, taken, value)


def _namesake(document: Document, wanted: Option) -> etree._Element | None:
    """The value of an option that already has the wanted option's id: QEMU refuses an id twice."""
    identity = properties_of(wanted).get("id")
    alike = (pair for pair in pairs(document.root) if pair.option.name == wanted.name and identity is not None)
    return next((pair.value for pair in alike if properties_of(pair.option).get("id") == identity), None)


def _properties(document: Document, name: str, wanted: Option) -> Iterator[Step]:
    """QEMU merges all occurrences of this option, so each property is looked up in all of them."""
    absent = []
    for key, value in wanted.properties().items():
        assert isinstance(value, str)  # a template's options aren't JSON
        given = [
            (pair.value, current)
            for pair in pairs(document.root)
            if pair.option.name == wanted.name and (current := value_of(pair.option, key)) is not None
        ]
        if not given:
            absent.append((key, value))
        elif not same(given[-1][1], value):
            for argument, current in given:
                if not same(current, value):
                    yield _change(document, argument, changed(word(argument), key, value))
    if absent:
        text = ",".join(f"{key}={value.replace(',', ',,')}" for key, value in absent)
        yield _append(document, name, text)


def _change(document: Document, argument: etree._Element, value: str) -> Step:
    words = itertools.takewhile(lambda item: item is not argument, arguments(document.root))
    before = [word(item) for item in words].count(value)
    change = ChangedArgument(document.raw(argument, "value") or "", value, before)
    return Step(document, change, document.set(argument, "value", value))


def _append(document: Document, name: str, value: str) -> Step:
    """Append an option; creates the elements around it first."""
    existing = arguments(document.root)
    after = last(document.root)
    line = next(document.root.iterchildren(COMMANDLINE), None)
    if existing:
        line = (existing[0] if after is None else after).getparent()
    elif line is not None:
        after = _place(line, ARG)
    parent = document.root if line is None else line
    prefix = prefix_of(parent, QEMU_NS)
    if prefix is None:
        return _declare(document)
    if line is None:
        change: Change = AddedElement(shown(COMMANDLINE), {}, document.ending(parent))
        new = [New(f"{prefix}commandline")]
        return Step(document, change, document.insert(parent, new, _place(parent, COMMANDLINE)))
    change = AddedOption(name, value, document.ending(line))
    new = [New(f"{prefix}arg", {"value": text}) for text in (name, value)]
    return Step(document, change, document.insert(line, new, after))


def prefix_of(element: etree._Element, namespace: str) -> str | None:
    """The prefix, with its colon, for a child in that namespace; None if none is declared here."""
    if etree.QName(element).namespace == namespace:
        return f"{element.prefix}:" if element.prefix else ""
    return next((f"{prefix}:" for prefix, uri in element.nsmap.items() if uri == namespace and prefix), None)


def _declare(document: Document) -> Step:
    taken = {prefix for element in document.root.iter(etree.Element) for prefix in element.nsmap}
    free = next(name for name in ("qemu", *(f"qemu{n}" for n in range(2, len(taken) + 3))) if name not in taken)
    return Step(document, Declared(free), document.set(document.root, f"xmlns:{free}", QEMU_NS))
