"""Undo one recorded change, if the document still has what ``prepare`` put there."""

from __future__ import annotations

from dataclasses import dataclass

from virtcpr.domain.edit.arguments import arguments, option, pairs, word
from virtcpr.domain.edit.changes import AddedElement, AddedOption, Change, ChangedArgument, Declared, SetAttribute
from virtcpr.domain.edit.document import BLANK, Document, unescape
from virtcpr.domain.edit.paths import find
from virtcpr.domain.xml import QEMU_NS
from virtcpr.errors import ParseError


@dataclass(frozen=True)
class Kept:
    """Why a change was left alone; None if nothing of it is left."""

    why: str | None = None


def undone(document: Document, change: Change) -> Document | Kept:
    """The document without the change, or why it isn't undone."""
    match change:
        case SetAttribute():
            return _attribute(document, change)
        case AddedElement():
            return _element(document, change)
        case AddedOption():
            return _option(document, change)
        case ChangedArgument():
            return _argument(document, change)
        case Declared():
            return _declaration(document, change)


def _attribute(document: Document, change: SetAttribute) -> Document | Kept:
    element = find(document.root, change.path)
    if element is None:
        return Kept(f"{change.path}: the element is gone, so is its {change.attribute}")
    value = element.get(change.attribute)
    if value == (None if change.was is None else unescape(change.was)):
        return Kept()
    if value is None:
        return Kept(f"{change.path}: {change.attribute} was '{change.now}', and is no longer there")
    if value != change.now:
        return Kept(f"{change.path}: {change.attribute} was '{change.now}', and is '{value}' now")
    if change.was is None:
        return document.unset(element, change.attribute)
    return document.put(element, change.attribute, change.was)


def _element(document: Document, change: AddedElement) -> Document | Kept:
    element = find(document.root, change.path)
    if element is None:
        return Kept()
    others = [str(name) for name, value in element.attrib.items() if change.attributes.get(str(name)) != value]
    if others:
        return Kept(f"{change.path}: it stays, its {' and '.join(others)} changed since")
    if len(element) or (element.text or "").strip(BLANK.decode()):
        return Kept(f"{change.path}: it stays, something else is in it now")
    return document.remove([element], change.ending)


def _option(document: Document, change: AddedOption) -> Document | Kept:
    wanted = option(change.name, change.value)
    alike = [pair for pair in pairs(document.root) if pair.option.name == wanted.name]
    ours = [pair for pair in alike if (word(pair.name), word(pair.value)) == (change.name, change.value)]
    if ours:
        return document.remove([ours[-1].name, ours[-1].value], change.ending)
    return Kept(f"qemu:commandline: {change.name} {change.value} is not there any more") if alike else Kept()


def _argument(document: Document, change: ChangedArgument) -> Document | Kept:
    matches = [argument for argument in arguments(document.root) if word(argument) == change.now]
    if len(matches) > change.before:
        return document.put(matches[change.before], "value", change.was)
    if any(word(argument) == unescape(change.was) for argument in arguments(document.root)):
        return Kept()
    return Kept(f"qemu:commandline: '{change.now}' is not there any more")


def _declaration(document: Document, change: Declared) -> Document | Kept:
    if document.root.nsmap.get(change.prefix) != QEMU_NS:
        return Kept()
    try:
        return document.unset(document.root, f"xmlns:{change.prefix}")
    except ParseError:
        return Kept()  # somebody else uses it now
