"""XML text edited in place: everything that an edit doesn't name stays the same, to the byte."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lxml import etree

from virtcpr.domain.edit.spans import NAME, Place, Span, encoded, malformed, places, span
from virtcpr.errors import ParseError

BLANK = b" \t\r\n"
# A comment behind an element on the same line is about that element.
REMARK = re.compile(rb"(?:[ \t]*<!--(?:(?!-->).)*-->)?", re.DOTALL)
TYPES = ("qemu", "kvm", "hvf")
# Other documents that libvirt writes, for an error that names the mistake.
OTHERS = {
    "domstatus": "libvirt's status file of a running domain",
    "domainsnapshot": "a snapshot of a domain",
    "domaincheckpoint": "a checkpoint of a domain",
    "network": "a network",
    "pool": "a storage pool",
    "volume": "a storage volume",
    "capabilities": "the host's capabilities",
    "domainCapabilities": "an emulator's capabilities",
}


def escape(value: str) -> str:
    """The value as an attribute's text between single quotes."""
    for character, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("'", "&apos;")):
        value = value.replace(character, written)
    # A parser turns these into spaces if they aren't escaped.
    return re.sub(r"[\t\n\r]", lambda match: f"&#{ord(match[0])};", value)


def _quoted(value: str) -> str:
    if "'" in value and '"' not in value:
        written = escape(value).replace("&apos;", "'")
        return f'"{written}"'
    return f"'{escape(value)}'"


def unescape(raw: str) -> str:
    """The value of an attribute from its text.  Raises ParseError if that can't be an attribute's text."""
    written = raw.replace('"', "&quot;")
    try:
        return etree.fromstring(f'<a v="{written}"/>').get("v", "")
    except (etree.XMLSyntaxError, ValueError) as error:
        raise ParseError(f"'{raw}' can't be the text of an attribute") from error


@dataclass(frozen=True)
class New:
    """An element to be inserted; names are as written, with their prefix."""

    name: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    children: Sequence[New] = ()

    def written(self, line: str, step: str) -> str:
        """``line`` is the line break and the indentation before it, ``step`` how much further its children stand."""
        words = "".join(f" {name}={_quoted(value)}" for name, value in self.attributes.items())
        if not self.children:
            return f"{line}<{self.name}{words}/>"
        inner = "".join(child.written(line + step, step) for child in self.children)
        return f"{line}<{self.name}{words}>{inner}{line}</{self.name}>"


@dataclass(frozen=True, eq=False)
class Document:
    """A text and its elements.  Every edit returns a new document, with elements of its own."""

    text: str
    root: etree._Element
    _data: bytes
    _places: Mapping[etree._Element, Place]

    @classmethod
    def parse(cls, text: str) -> Document:
        """Read a text.  Raises ParseError if it isn't well-formed, or has a document type or another encoding."""
        data = encoded(text)
        positions = places(data)
        parser = etree.XMLParser(
            resolve_entities=False, no_network=True, load_dtd=False, remove_blank_text=False, huge_tree=False
        )
        try:
            root = etree.fromstring(data, parser)
        except etree.XMLSyntaxError as error:
            raise malformed(str(error.msg).partition(", line")[0].strip(), error.lineno) from error
        return cls(text, root, data, dict(zip(root.iter(etree.Element), positions, strict=True)))

    def raw(self, element: etree._Element, name: str) -> str | None:
        """The text of an attribute, as written between its quotes."""
        place = self._span(element).attributes.get(name)
        return None if place is None else self._data[place.first : place.last].decode()

    def set(self, element: etree._Element, name: str, value: str) -> Document:
        """Give an attribute this value; a new attribute comes last."""
        return self.put(element, name, escape(value).replace("&apos;", "'"))

    def put(self, element: etree._Element, name: str, raw: str) -> Document:
        """Give an attribute this text as ``raw`` reads it; only the quote that surrounds it is escaped."""
        where = self._span(element)
        place = where.attributes.get(name)
        if place is None:
            written = raw.replace("'", "&apos;")
            return self._splice((where.words, where.words, f" {name}='{written}'"))
        quote, written = ("'", "&apos;") if self._data[place.last : place.last + 1] == b"'" else ('"', "&quot;")
        return self._splice((place.first, place.last, raw.replace(quote, written)))

    def unset(self, element: etree._Element, name: str) -> Document:
        place = self._span(element).attributes[name]
        return self._splice((place.start, place.last + 1, ""))

    def ending(self, element: etree._Element) -> str | None:
        """How the start tag of an empty element ends, such as ``/>``; None if something is in the element.

        ``insert`` loses the ending, ``remove`` restores it.
        """
        where = self._span(element)
        return self._data[where.words : where.inner].decode() if where.inner == where.close else None

    def insert(self, parent: etree._Element, new: Sequence[New], after: etree._Element | None) -> Document:
        """Insert elements after that child, or as the first ones, indented as the document is."""
        where = self._span(parent)
        line, last = self._lines(parent, after)
        step = self._step() if line else ""
        text = "".join(child.written(line, step) for child in new)
        if where.end == where.inner:
            name = self._name(where)
            return self._splice((where.words, where.inner, f">{text}{last}</{name}>"))
        if where.inner == where.close:
            return self._splice((where.inner, where.inner, text + last))
        place = where.inner if after is None else self._behind(after)
        return self._splice((place, place, text))

    def remove(self, elements: Sequence[etree._Element], ending: str | None = None) -> Document:
        """Remove children of one element, and the white space before each.

        If nothing is left in the parent, it gets the ``ending`` that it had when it was empty.
        """
        parent = elements[0].getparent()
        assert parent is not None  # the root is never removed
        where = self._span(parent)
        cuts = [(self._blank(self._span(element).start), self._span(element).end, "") for element in elements]
        if ending is not None and not _spliced(self._data, cuts, where.inner, where.close).strip(BLANK):
            return self._splice((where.words, where.end if ending.endswith("/>") else where.close, ending))
        return self._splice(*cuts)

    def _splice(self, *edits: tuple[int, int, str]) -> Document:
        return Document.parse(_spliced(self._data, sorted(edits), 0, len(self._data)).decode())

    def _span(self, element: etree._Element) -> Span:
        return span(self._data, self._places[element])

    def _name(self, where: Span) -> str:
        match = NAME.match(self._data, where.start)
        assert match is not None  # the scanner found it too
        return match[1].decode()

    def _behind(self, element: etree._Element) -> int:
        match = REMARK.match(self._data, self._span(element).end)
        assert match is not None  # it may be empty
        return match.end()

    def _blank(self, end: int) -> int:
        """The start of the white space before that position."""
        while end and self._data[end - 1] in BLANK:
            end -= 1
        return end

    def _line(self, element: etree._Element) -> str | None:
        """The line break and the indentation before an element; None if it doesn't begin a line."""
        start = self._span(element).start
        blank = self._data[self._blank(start) : start].decode()
        position = blank.rfind("\n")
        if position < 0:
            return (self._break() + blank) if element is self.root else None
        return blank[position - (blank[position - 1 : position] == "\r") :]

    def _break(self) -> str:
        return "\r\n" if b"\r\n" in self._data else "\n"

    def _lines(self, parent: etree._Element, after: etree._Element | None) -> tuple[str, str]:
        """The line break and indentation before a new child, and before the end tag of a parent that was empty."""
        near = [] if after is None else [after]
        siblings = [*near, *parent.iterchildren(etree.Element, reversed=True)]
        for sibling in siblings:
            line = self._line(sibling)
            if line is not None:
                return line, ""
        own = self._line(parent)
        if siblings or own is None:
            return "", ""
        return own + self._step(), own

    def _step(self) -> str:
        """The indentation of a child relative to its parent."""
        outer = self._line(self.root) or ""
        for child in self.root.iterchildren(etree.Element):
            line = self._line(child)
            if line is not None:
                return line.removeprefix(outer).lstrip("\r\n")
        return "  "


def _spliced(data: bytes, edits: Sequence[tuple[int, int, str]], start: int, end: int) -> bytes:
    """The bytes from ``start`` to ``end`` with the edits in their place; edits are in order and don't overlap."""
    parts = []
    for first, last, text in edits:
        parts += [data[start:first], text.encode()]
        start = last
    return b"".join([*parts, data[start:end]])


def parse_domain(text: str) -> Document:
    """Read a domain's XML.  Raises ParseError if it is something else, or a domain that isn't QEMU's."""
    document = Document.parse(text)
    require_domain(document)
    return document


def require_domain(document: Document) -> None:
    """Raises ParseError, which names the document, unless it is a domain that virtcpr can work on."""
    root = document.root
    name = etree.QName(root)
    if name.namespace:
        raise ParseError(f"this is not a domain's XML but <{name.localname}> of {name.namespace}")
    if name.localname != "domain":
        what = OTHERS.get(name.localname)
        raise ParseError(f"this is not a domain's XML but {f'{what}, ' if what else ''}<{name.localname}>")
    kind = root.get("type")
    if kind not in TYPES:
        has = "has no type" if kind is None else f"is of type '{kind}'"
        raise ParseError(f"the domain {has}; virtcpr works on domains of type {', '.join(TYPES[:-1])} or {TYPES[-1]}")
