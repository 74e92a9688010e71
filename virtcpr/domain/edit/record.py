"""The record of ``prepare``'s changes, in the document's metadata."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace

from lxml import etree

from virtcpr.domain.argv import Option
from virtcpr.domain.edit.arguments import properties_of
from virtcpr.domain.edit.changes import AddedElement, AddedOption, Change, ChangedArgument, Declared, SetAttribute
from virtcpr.domain.edit.document import Document, New, unescape
from virtcpr.domain.edit.paths import NAMESPACES, VIRTCPR_NS, find
from virtcpr.errors import ParseError

HOLDER = "metadata/virtcpr:domain"
PREPARED = "prepared"
ATTRIBUTE = "attribute"
KINDS = {
    SetAttribute: "set",
    AddedElement: "added",
    AddedOption: "option",
    ChangedArgument: "argument",
    Declared: "declared",
}
NAME = re.compile(r"[^\W\d][\w.-]*")
COUNT = re.compile(r"[0-9]{1,6}")
ENDING = re.compile(r"[ \t\r\n]*/?>")


def of_mode(template: str, mode: str) -> bool:
    """Whether a template belongs to a mode: its name is the mode's, or begins with it and a dash."""
    return template.partition("-")[0] == mode


@dataclass(frozen=True)
class Record:
    """All changes in order, the mode of the last template, and the names of all templates."""

    mode: str
    changes: tuple[Change, ...] = ()
    ending: str | None = None  # of <virtcpr:domain>, if that was empty
    templates: tuple[str, ...] = ()  # empty: the template with the mode's name

    def of_template(self, mode: str, name: str) -> Record:
        """The record for changes that this template is about to make."""
        earlier = self.templates or (self.mode,)
        return replace(self, mode=mode, templates=(*(template for template in earlier if template != name), name))

    def with_change(self, change: Change, before: Document) -> Record:
        """The record with one more change, which was made to ``before``.

        If something was changed, then edited by somebody else, then changed again, it counts as one change: ``undo``
        restores the text from before the first.
        """
        for position, earlier in enumerate(self.changes):
            merged = _merged(earlier, change, before)
            if merged is not None:
                return replace(self, changes=(*self.changes[:position], merged, *self.changes[position + 1 :]))
        return replace(self, changes=(*self.changes, change))

    def element(self, prefix: str) -> New:
        words = {"mode": self.mode} | ({} if self.ending is None else {"ending": self.ending})
        if self.templates not in ((), (self.mode,)):
            words["templates"] = " ".join(self.templates)
        return New(f"{prefix}{PREPARED}", words, tuple(_written(change, prefix) for change in self.changes))


def _merged(earlier: Change, change: Change, before: Document) -> Change | None:
    """The two changes as one; None if they concern different things."""
    match earlier, change:
        case SetAttribute() | AddedElement(), SetAttribute():
            return _with_attribute(earlier, change, before)
        case AddedElement(), AddedElement() if earlier.path == change.path:
            return replace(earlier, attributes=change.attributes)
        case AddedOption(), AddedOption() if (earlier.name, earlier.value) == (change.name, change.value):
            return earlier
        case AddedOption(), ChangedArgument() if (earlier.value, 0) == (change.now, change.before):
            return earlier
        case ChangedArgument(), ChangedArgument() if (earlier.now, earlier.before) == (change.now, change.before):
            return earlier
        case AddedOption(), ChangedArgument() if _same_identity(earlier.value, change):
            return replace(earlier, value=change.now)
        case ChangedArgument(), ChangedArgument() if _same_identity(earlier.now, change):
            return replace(earlier, now=change.now, before=change.before)
        case Declared(), Declared() if earlier == change:
            return earlier
    return None


def _same_identity(value: str, change: ChangedArgument) -> bool:
    """Whether an argument and the changed argument have the same id and kind; QEMU accepts an id once."""
    first, second = (properties_of(Option("", text)) for text in (value, change.now))
    return "id" in first and (first["id"], first.get("")) == (second.get("id"), second.get(""))


def _with_attribute(earlier: SetAttribute | AddedElement, change: SetAttribute, before: Document) -> Change | None:
    if isinstance(earlier, SetAttribute) and earlier.attribute != change.attribute:
        return None
    element = find(before.root, earlier.path)
    if element is None or element is not find(before.root, change.path):
        return None
    if isinstance(earlier, SetAttribute):
        return replace(earlier, now=change.now)
    return replace(earlier, attributes={**earlier.attributes, change.attribute: change.now})


def _written(change: Change, prefix: str) -> New:
    values = {field.name: getattr(change, field.name) for field in fields(change)}
    attributes = change.attributes if isinstance(change, AddedElement) else {}
    return New(
        f"{prefix}{KINDS[type(change)]}",
        {name: str(value) for name, value in values.items() if isinstance(value, str | int)},
        [New(f"{prefix}{ATTRIBUTE}", {"name": name, "value": value}) for name, value in attributes.items()],
    )


def elements(document: Document) -> list[etree._Element]:
    """The records in a document; prepare writes only one."""
    matches = document.root.xpath(f"{HOLDER}/virtcpr:{PREPARED}", namespaces=NAMESPACES)
    assert isinstance(matches, list)  # a path gives elements
    return [match for match in matches if isinstance(match, etree._Element)]


def read(document: Document) -> Record | None:
    """The record in a document; None without one.  Raises ParseError if it is invalid."""
    records = elements(document)
    if not records:
        return None
    try:
        if len(records) > 1:
            raise ParseError("there is more than one record")
        changes = tuple(_change(element, document) for element in records[0].iterchildren(etree.Element))
        mode = _needed(records[0], "mode")
        return Record(mode, changes, _ending(records[0]), tuple(records[0].get("templates", mode).split()))
    except ParseError as error:
        raise ParseError(
            f"the record of prepare's changes in the domain is invalid: {error.message}",
            hint="Correct <virtcpr:prepared> in the domain's <metadata>, or remove it: undo then does nothing.",
        ) from error


def _change(element: etree._Element, document: Document) -> Change:
    match _name(element):
        case "set":
            was = None if element.get("was") is None else _raw(element)
            return SetAttribute(_path(element, document), _named(element, "attribute"), was, _needed(element, "now"))
        case "added":
            path = _path(element, document)
            if path == ".":
                raise ParseError("<added> names the root element")
            return AddedElement(
                path, dict(_attribute(child) for child in element.iterchildren(etree.Element)), _ending(element)
            )
        case "option":
            return AddedOption(_needed(element, "name"), _needed(element, "value"), _ending(element))
        case "argument":
            return ChangedArgument(_raw(element), _needed(element, "now"), _count(element, "before"))
        case "declared":
            return Declared(_named(element, "prefix"))
        case other:
            raise ParseError(f"it has <{other}> in it")


def _name(element: etree._Element) -> str:
    name = etree.QName(element)
    if name.namespace != VIRTCPR_NS:
        raise ParseError(f"it has <{name.localname}> of another namespace in it")
    return name.localname


def _needed(element: etree._Element, attribute: str) -> str:
    value = element.get(attribute)
    if value is None:
        raise ParseError(f"<{_name(element)}> has no {attribute}")
    return value


def _count(element: etree._Element, attribute: str) -> int:
    text = _needed(element, attribute)
    if not COUNT.fullmatch(text):
        raise ParseError(f"<{_name(element)}>: '{text}' is not a count")
    return int(text)


def _named(element: etree._Element, attribute: str) -> str:
    name = _needed(element, attribute)
    if not NAME.fullmatch(name):
        raise ParseError(f"<{_name(element)}>: '{name}' is not a name")
    return name


def _path(element: etree._Element, document: Document) -> str:
    path = _needed(element, "path")
    find(document.root, path)
    return path


def _raw(element: etree._Element) -> str:
    raw = _needed(element, "was")
    unescape(raw)
    return raw


def _ending(element: etree._Element) -> str | None:
    ending = element.get("ending")
    if ending is not None and not ENDING.fullmatch(ending):
        raise ParseError(f"<{_name(element)}>: no tag ends with '{ending}'")
    return ending


def _attribute(element: etree._Element) -> tuple[str, str]:
    if _name(element) != ATTRIBUTE:
        raise ParseError(f"<added> has <{_name(element)}> in it")
    return _named(element, "name"), _needed(element, "value")
