"""Helpers for every reader of libvirt's XML."""

from __future__ import annotations

from lxml import etree

from virtcpr.errors import ParseError

QEMU_NS = "http://libvirt.org/schemas/domain/qemu/1.0"
# Bytes per unit in libvirt's XML (virScaleInteger, src/util/virutil.c).
UNITS: dict[str, int] = {
    "b": 1,
    "bytes": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)},
    **{name: 1024**power for power, letter in enumerate("KMGT", 1) for name in (letter, f"{letter}iB")},
    "k": 1024,
}


def parse(text: str) -> etree._Element:
    """Parse libvirt's own XML; entities and external references are never resolved.  Raises ParseError."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_blank_text=False)
    try:
        return etree.fromstring(text.encode(), parser)
    except etree.XMLSyntaxError as error:
        raise ParseError(f"XML that can't be parsed: {error}") from error


def amount(text: str | None, unit: str | None) -> int:
    """An amount of memory in bytes; the default unit is KiB.  Raises ParseError."""
    unit = unit or "KiB"
    try:
        return int(text or "") * UNITS[unit]
    except (ValueError, KeyError) as error:
        raise ParseError(f"'{text} {unit}' isn't an amount of memory") from error
