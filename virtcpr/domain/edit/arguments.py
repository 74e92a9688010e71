"""The arguments for QEMU in a domain's XML: ``<qemu:arg>`` in ``<qemu:commandline>``, read as options."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from virtcpr.domain.argv import FLAGS, Option, Properties
from virtcpr.domain.xml import QEMU_NS
from virtcpr.errors import ParseError

COMMANDLINE = f"{{{QEMU_NS}}}commandline"
ARG = f"{{{QEMU_NS}}}arg"
# QEMU merges all occurrences of these options, and the last value of a property wins (system/vl.c).  Every other option
# creates something new each time.
MERGED = {"machine": "machine", "M": "machine"}
# The words that QEMU accepts for a switch (qapi_bool_parse).
SWITCH = {**dict.fromkeys(("on", "yes", "true", "y"), "on"), **dict.fromkeys(("off", "no", "false", "n"), "off")}


@dataclass(frozen=True)
class Pair:
    """Two arguments: an option and its value."""

    name: etree._Element
    value: etree._Element

    @property
    def option(self) -> Option:
        return option(word(self.name), word(self.value))


def word(argument: etree._Element) -> str:
    return argument.get("value", "")


def _name(text: str) -> str | None:
    """The option that an argument names, if it names one; QEMU takes one dash or two."""
    return text.removeprefix("-").removeprefix("-") if text.startswith("-") else None


def option(name: str, value: str) -> Option:
    bare = _name(name) or name
    return Option(MERGED.get(bare, bare), value)


def takes_value(text: str) -> bool:
    """Whether an argument is an option that has a value in the next one."""
    name = _name(text)
    return name is not None and name not in FLAGS


def arguments(root: etree._Element) -> list[etree._Element]:
    return [argument for line in root.iterchildren(COMMANDLINE) for argument in line.iterchildren(ARG)]


def pairs(root: etree._Element) -> Iterator[Pair]:
    """The options that have a value.  Other arguments are skipped, and stay as they are."""
    words = iter(arguments(root))
    for name in words:
        if not takes_value(word(name)):
            continue
        value = next(words, None)
        if value is not None:
            yield Pair(name, value)


def last(root: etree._Element) -> etree._Element | None:
    """The argument after which new arguments go; never an option that would take the first of them as its value."""
    existing = arguments(root)
    if not existing:
        return None
    paired = {argument for pair in pairs(root) for argument in (pair.name, pair.value)}
    dangling = existing[-1] not in paired and takes_value(word(existing[-1]))
    return existing[-1] if not dangling else existing[-2] if len(existing) > 1 else None


def value_of(given: Option, key: str) -> str | None:
    """The value that an option gives a property; a bare name means on.  None if it has none."""
    text = given.value or ""
    if text.startswith("{"):
        return None  # JSON, which QEMU doesn't accept for an option that it merges
    properties = Option(given.name, text).properties()
    value = properties.get(key, "on" if properties.get("") == key else None)
    return value if isinstance(value, str) else None


def properties_of(given: Option) -> Properties:
    """The properties of an option; none if they can't be read."""
    try:
        return given.properties()
    except ParseError:
        return {}


def same(first: str, second: str) -> bool:
    """Whether two values mean the same: a switch can be written in four ways."""
    return SWITCH.get(first, first) == SWITCH.get(second, second)


def changed(text: str, key: str, value: str) -> str:
    """An option's text with another value for a property, at every occurrence; the rest is unchanged."""
    words = text.replace(",,", "\0").split(",")
    names = [part.partition("=")[0].replace("\0", ",") for part in words]
    new = f"{key}={value}".replace(",", "\0")
    return ",".join(new if name == key else part for name, part in zip(names, words, strict=True)).replace("\0", ",,")
