"""Paths of elements that are still valid after libvirt has rewritten the document.

A path has the names from the root.  Among elements of the same name, one is identified by an attribute that libvirt
keeps (its id, its name), or by its position if it has no such attribute.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from lxml import etree

from virtcpr.domain.xml import QEMU_NS
from virtcpr.errors import ParseError

VIRTCPR_NS = "urn:virtcpr:domain:1"
NAMESPACES = {"qemu": QEMU_NS, "virtcpr": VIRTCPR_NS}
PREFIXES = {uri: f"{prefix}:" for prefix, uri in NAMESPACES.items()}
# libvirt keeps an alias with this prefix, and drops every other alias from persistent XML.
USER_ALIAS = "ua-"
IDENTITIES = ("@id", "@name", "@index", "uuid", "alias/@name")
STEP = re.compile(
    r"(?:qemu:|virtcpr:)?[^\W\d][\w.-]*"
    rf"""(?:\[(?:[1-9]\d*|(?:{"|".join(IDENTITIES)})=(?:'[^']*'|"[^"]*"))\])?"""
)
PATH = re.compile(rf"\.|{STEP.pattern}(?:/{STEP.pattern})*")


def shown(tag: str) -> str:
    """An element's name with the prefix that virtcpr gives its namespace.  Raises ParseError for another namespace."""
    name = etree.QName(tag)
    if not name.namespace:
        return name.localname
    if name.namespace not in PREFIXES:
        raise ParseError(f"<{name.localname}> is of the namespace {name.namespace}, which virtcpr doesn't know")
    return PREFIXES[name.namespace] + name.localname


def path_of(element: etree._Element, changing: Collection[str] = ()) -> str:
    """The path of an element.  Attributes that are ``changing`` don't identify it."""
    steps = []
    parent = element.getparent()
    while parent is not None:
        steps.append(shown(element.tag) + _predicate(element, parent, changing))
        element, parent = parent, parent.getparent()
    return "/".join(reversed(steps)) or "."


def _predicate(element: etree._Element, parent: etree._Element, changing: Collection[str]) -> str:
    namesakes = list(parent.iterchildren(element.tag))
    for identity in IDENTITIES:
        value = _identity(element, identity)
        if value is None or identity.removeprefix("@") in changing or ("'" in value and '"' in value):
            continue
        if [_identity(namesake, identity) for namesake in namesakes].count(value) == 1:
            return f'[{identity}="{value}"]' if "'" in value else f"[{identity}='{value}']"
    return f"[{namesakes.index(element) + 1}]" if len(namesakes) > 1 else ""


def _identity(element: etree._Element, identity: str) -> str | None:
    if identity == "uuid":
        return element.findtext("uuid")
    if identity == "alias/@name":
        alias = element.find("alias")
        name = None if alias is None else alias.get("name")
        return name if name is not None and name.startswith(USER_ALIAS) else None
    return element.get(identity.removeprefix("@"))


def find(root: etree._Element, path: str) -> etree._Element | None:
    """The first element at a path.  Raises ParseError if it isn't one that ``path_of`` writes."""
    if not PATH.fullmatch(path):
        raise ParseError(f"'{path}' is not a path of elements")
    try:
        matches = root.xpath(path, namespaces=NAMESPACES)
    except (etree.XPathError, ValueError) as error:
        raise ParseError(f"'{path}' is not a path of elements") from error
    assert isinstance(matches, list)  # a path gives elements
    return next((match for match in matches if isinstance(match, etree._Element)), None)
