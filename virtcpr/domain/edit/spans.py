"""The byte positions of the elements and attributes of an XML text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from xml.parsers import expat

from virtcpr.errors import ParseError

NAME = re.compile(rb"<([^ \t\r\n/>]+)")
ATTRIBUTE = re.compile(rb"""[ \t\r\n]+([^ \t\r\n=]+)[ \t\r\n]*=[ \t\r\n]*(?:"([^"]*)"|'([^']*)')""")
TAG_END = re.compile(rb"[ \t\r\n]*/?>")
# What may come before a document type: entities can only be declared in one.
PROLOG = re.compile(rb"\xef\xbb\xbf|(?:[ \t\r\n]+|<\?.*?\?>|<!--.*?-->)", re.DOTALL)
MAX_ELEMENTS = 20_000  # each costs memory, and a domain of many devices has a thousand
ENCODINGS = ("utf-8", "utf8", "us-ascii", "ascii")


# The positions of an element's start tag and of its end tag.
Place = tuple[int, int]


@dataclass(frozen=True)
class Attribute:
    """Positions: ``start`` of the white space before its name; its value, between the quotes."""

    start: int
    first: int
    last: int


@dataclass(frozen=True)
class Span:
    """Positions: start of the tag, end of its last attribute, end of the tag, start and end of the end tag."""

    start: int
    words: int
    inner: int
    close: int
    end: int
    attributes: Mapping[str, Attribute]


def encoded(text: str) -> bytes:
    """The text as bytes for the parsers.  Raises ParseError if it is empty, or has a document type."""
    if not text.strip("\ufeff \t\r\n"):
        raise ParseError("the XML is empty")
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise malformed("a character that XML doesn't allow", text.count("\n", 0, error.start) + 1) from error
    position = 0
    while match := PROLOG.match(data, position):
        position = match.end()
    if data.startswith(b"<!DOCTYPE", position):
        line = data.count(b"\n", 0, position) + 1
        raise ParseError(
            f"the XML has a document type (<!DOCTYPE>, line {line}); virtcpr reads only XML without one, as it "
            "resolves no entities and no references to other files"
        )
    return data


def places(data: bytes) -> Iterator[Place]:
    """The positions of the elements, in document order.  Raises ParseError if the text isn't well-formed."""
    return _Scanner(data).places()


class _Scanner:
    """Finds the elements: expat reports where their tags begin, and whether the text is well-formed."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._starts: list[int] = []
        self._closes: dict[int, int] = {}
        self._open: list[int] = []
        self._parser = expat.ParserCreate()
        self._parser.XmlDeclHandler = self._declaration
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end

    def places(self) -> Iterator[Place]:
        """All elements in document order."""
        try:
            self._parser.Parse(self._data, True)
        except expat.ExpatError as error:
            why = expat.ErrorString(error.code)
            if why == expat.errors.XML_ERROR_JUNK_AFTER_DOC_ELEMENT:
                hint = "virtcpr reads one document at a time: put each domain's XML in a file of its own"
                raise ParseError(f"something follows the end of the XML (line {error.lineno})", hint=hint) from error
            raise malformed(why, error.lineno) from error
        return ((start, self._closes[start]) for start in self._starts)

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.lower() not in ENCODINGS:
            raise ParseError(f"the XML declares the encoding {encoding}; virtcpr reads UTF-8 only")

    def _start(self, _name: str, _attributes: Mapping[str, str]) -> None:
        if len(self._starts) == MAX_ELEMENTS:
            raise ParseError(f"the XML has more than {MAX_ELEMENTS} elements, too many for a domain")
        self._open.append(self._parser.CurrentByteIndex)
        self._starts.append(self._parser.CurrentByteIndex)

    def _end(self, _name: str) -> None:
        self._closes[self._open.pop()] = self._parser.CurrentByteIndex


def span(data: bytes, place: Place) -> Span:
    """All positions of an element."""
    start, close = place
    name = NAME.match(data, start)
    assert name is not None  # expat saw a start tag there
    attributes, position = {}, name.end()
    while match := ATTRIBUTE.match(data, position):
        quoted = 2 if match[2] is not None else 3
        attributes[match[1].decode()] = Attribute(match.start(), match.start(quoted), match.end(quoted))
        position = match.end()
    tag_end = TAG_END.match(data, position)
    assert tag_end is not None  # nothing but attributes stands in a start tag
    if tag_end[0].endswith(b"/>"):
        return Span(start, position, tag_end.end(), tag_end.end(), tag_end.end(), attributes)
    return Span(start, position, tag_end.end(), close, data.index(b">", close) + 1, attributes)


def malformed(why: str, line: int | None) -> ParseError:
    where = f" (line {line})" if line else ""
    return ParseError(f"the XML is not well-formed: {why}{where}")
