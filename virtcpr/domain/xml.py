"""What every reader of libvirt's XML needs."""

from __future__ import annotations

from lxml import etree

from virtcpr.errors import ParseError

QEMU_NS = "http://libvirt.org/schemas/domain/qemu/1.0"


def parse(text: str) -> etree._Element:
    """Parse libvirt's own XML; entities and external references are never resolved.  Raises ParseError."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_blank_text=False)
    try:
        return etree.fromstring(text.encode(), parser)
    except etree.XMLSyntaxError as error:
        raise ParseError(f"XML that can't be parsed: {error}") from error
