"""The templates of ``prepare``: fragments of a domain's XML, read and checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from lxml import etree

from virtcpr.domain.edit.arguments import ARG, COMMANDLINE, MERGED, option, takes_value, word
from virtcpr.domain.edit.document import Document
from virtcpr.domain.edit.paths import NAMESPACES, VIRTCPR_NS, shown
from virtcpr.domain.xml import amount
from virtcpr.errors import ParseError

UNLESS = f"{{{VIRTCPR_NS}}}unless"
PROPERTY = re.compile(r"[\w.-]+")
EACH = f"{{{VIRTCPR_NS}}}each"
# In an argument's value: the domain's memory in bytes, rounded up to MiB as libvirt passes it to QEMU.
MEMORY = "{memory}"
MIB = 1024 * 1024


@dataclass(frozen=True)
class Query:
    """An XPath expression of a template, asked of a domain's root element."""

    text: str
    compiled: etree.XPath

    @classmethod
    def of(cls, text: str | None) -> Query | None:
        if text is None:
            return None
        try:
            return cls(text, etree.XPath(text, namespaces=NAMESPACES, regexp=False, smart_strings=False))
        except etree.XPathError as error:
            raise ParseError(f"'{text}' is not an XPath expression: {error}") from error

    def _ask(self, root: etree._Element) -> object:
        try:
            return self.compiled(root)
        except etree.XPathError as error:
            raise ParseError(f"the XPath expression '{self.text}' can't be evaluated: {error}") from error

    def holds(self, root: etree._Element) -> bool:
        return bool(self._ask(root))

    def elements(self, root: etree._Element) -> Iterator[etree._Element]:
        result = self._ask(root)
        if not isinstance(result, list):
            raise ParseError(f"the XPath expression '{self.text}' finds no elements")
        for element in result:
            if not isinstance(element, etree._Element) or not isinstance(element.tag, str):
                raise ParseError(f"the XPath expression '{self.text}' finds something that is no element")
            if etree.QName(element).namespace:
                raise ParseError(
                    f"the XPath expression '{self.text}' finds <{element.tag!s}>, which a template can't change"
                )
            yield element


@dataclass(frozen=True)
class Part:
    """One element of a template.  ``options`` are a command line's, as pairs of arguments."""

    tag: str
    attributes: Mapping[str, str]
    children: tuple[Part, ...] = ()
    unless: Query | None = None
    each: Query | None = None
    options: tuple[tuple[str, str], ...] = ()

    def skipped(self, root: etree._Element) -> bool:
        return self.unless is not None and self.unless.holds(root)

    def creates(self, root: etree._Element) -> bool:
        """Whether to create the element if it is missing; not if all parts in it are skipped."""
        if self.each is not None or self.skipped(root):
            return False
        return bool(self.attributes) or not self.children or any(child.creates(root) for child in self.children)


def read(text: str) -> Part:
    """Read a template.  Raises ParseError, which names the element, if it isn't valid."""
    root = Document.parse(text).root
    if root.tag != "domain":
        raise ParseError(f"a template starts with <domain>, this one with <{etree.QName(root).localname}>")
    if EACH in root.attrib or any(not str(name).startswith("{") for name in root.attrib):
        raise ParseError("a template's <domain> has no attributes of its own but virtcpr:unless")
    return _part(root)


def filled(part: Part, root: etree._Element) -> Part:
    """The template with the domain's own values in place of ``{memory}``.

    Raises ParseError if the domain lacks a value that the template needs.
    """
    options = tuple(
        (name, value.replace(MEMORY, _memory(root)) if MEMORY in value else value) for name, value in part.options
    )
    return replace(part, options=options, children=tuple(filled(child, root) for child in part.children))


def _memory(root: etree._Element) -> str:
    """libvirt rounds up (qemuDomainAlignMemorySizes), and QEMU wants RAM of exactly the size of ``-m``."""
    if root.find("devices/memory") is not None:
        raise ParseError(f"the template asks for {MEMORY}, and the domain has memory devices beside it")
    node = root.find("memory")
    size = 0 if node is None else amount(node.text, node.get("unit"))
    if size <= 0:
        raise ParseError(f"the template asks for {MEMORY}, and the domain has no <memory>")
    return str(-(-size // MIB) * MIB)


def _part(element: etree._Element) -> Part:
    name = _name(element)
    for attribute in element.attrib:
        if str(attribute).startswith("{") and attribute not in (UNLESS, EACH):
            raise ParseError(f"<{name}>: the attribute {attribute!s} has a namespace that means nothing in a template")
    texts = [element.text, *(child.tail for child in element)]
    if any(text and text.strip() for text in texts):
        raise ParseError(f"<{name}>: there is text in it; a template has elements and attributes only")
    line = element.tag == COMMANDLINE
    return Part(
        tag=str(element.tag),
        attributes={str(key): str(value) for key, value in element.attrib.items() if not str(key).startswith("{")},
        children=() if line else tuple(_part(child) for child in element.iterchildren(etree.Element)),
        unless=Query.of(element.get(UNLESS)),
        each=Query.of(element.get(EACH)),
        options=_options(element) if line else (),
    )


def _name(element: etree._Element) -> str:
    name = shown(element.tag)
    if ":" not in name:
        return name
    if element.tag != COMMANDLINE:
        raise ParseError(f"<{name}>: of this namespace a template has <qemu:commandline> only, with <qemu:arg> in it")
    parent = element.getparent()
    if parent is None or parent.tag != "domain" or EACH in element.attrib or set(element.attrib) - {UNLESS}:
        raise ParseError("<qemu:commandline> stands in <domain>, and has no attribute but virtcpr:unless")
    return name


def _options(line: etree._Element) -> tuple[tuple[str, str], ...]:
    """The pairs of arguments.  Options that QEMU merges must be plain properties: ``-machine a=b,c=d``."""
    children = list(line.iterchildren(etree.Element))
    for child in children:
        if child.tag != ARG or list(child.attrib) != ["value"] or len(child) or (child.text or "").strip():
            raise ParseError("<qemu:commandline>: a template has only <qemu:arg value='…'/> in it")
    words = [word(child) for child in children]
    if len(words) % 2:
        raise ParseError(f"<qemu:commandline>: an odd number of <qemu:arg>, {len(words)}; each option needs its value")
    given = list(zip(words[::2], words[1::2], strict=True))
    for name, value in given:
        if not takes_value(name):
            raise ParseError(f"<qemu:commandline>: '{name}' is not an option that takes a value, such as -machine")
        if option(name, value).name in MERGED.values() and not _plain(name, value):
            raise ParseError(f"<qemu:commandline>: '{name} {value}' is not of the form {name} property=value,…")
    return tuple(given)


def _plain(name: str, value: str) -> bool:
    return not value.startswith("{") and all(PROPERTY.fullmatch(key) for key in option(name, value).properties())
