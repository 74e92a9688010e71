"""Prepare a domain's XML for a mode at its next boot, and undo that."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lxml import etree

from virtcpr.domain.edit import fragment as template
from virtcpr.domain.edit import record
from virtcpr.domain.edit.changes import AddedElement, Change, Declared
from virtcpr.domain.edit.document import Document, New, parse_domain
from virtcpr.domain.edit.merge import Step, add, ensure, prefix_of
from virtcpr.domain.edit.paths import VIRTCPR_NS, find
from virtcpr.domain.edit.record import HOLDER, Record
from virtcpr.domain.edit.undo import undone

METADATA = "metadata"


@dataclass(frozen=True)
class Edited:
    """A document's new text, its changes, and what ``undo`` left alone because it changed since."""

    text: str
    changes: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def prepare(text: str, fragment: str, mode: str, name: str | None = None) -> Edited:
    """The document with everything that the fragment asks for, and with a record of these changes.

    ``name`` is the fragment's, by default the mode's.

    Raises ParseError if the text isn't a domain's, the fragment isn't a template, or the record in the text is invalid.
    """
    document = parse_domain(text)
    part = template.filled(template.read(fragment), document.root)
    earlier = record.read(document)
    noted = Record(mode, templates=(name or mode,))
    if earlier is not None:
        noted = replace(earlier, ending=None).of_template(mode, name or mode)
    made = []
    for step in ensure(document, part):
        noted = noted.with_change(step.change, step.before)
        document = step.after
        made.append(step.change)
    if not made:
        return Edited(text)
    return Edited(_with_record(document, noted).text, tuple(change.described() for change in made if _matters(change)))


def ensured(text: str, fragment: str) -> str:
    """The document with everything that the fragment asks for, without a record of it.  Raises ParseError."""
    document = parse_domain(text)
    for step in ensure(document, template.filled(template.read(fragment), document.root)):
        document = step.after
    return document.text


def undo(text: str) -> Edited:
    """The document as it was before ``prepare``, except for later changes; unchanged if it has no record.

    Raises ParseError if the text isn't a domain's, or the record in it is invalid.
    """
    document = parse_domain(text)
    noted = record.read(document)
    if noted is None:
        return Edited(text)
    document = document.remove(record.elements(document), noted.ending)
    changes, kept = [], []
    for change in reversed(noted.changes):
        result = undone(document, change)
        if isinstance(result, Document):
            document = result
            changes.append(change)
        elif result.why is not None:
            kept.append((change, result.why))
    return Edited(
        document.text,
        tuple(change.taken_back() for change in changes if _matters(change)),
        tuple(why for change, why in kept if _matters(change)),
    )


def recorded(text: str) -> str | None:
    """The mode for which the document is prepared, by its record.  Raises ParseError as ``undo`` does."""
    noted = record.read(parse_domain(text))
    return None if noted is None else noted.mode


def templates(text: str) -> tuple[str, ...]:
    """The templates that changed the document, by its record.  Raises ParseError as ``undo`` does."""
    noted = record.read(parse_domain(text))
    return () if noted is None else noted.templates


def _matters(change: Change) -> bool:
    """Whether a change matters to the domain, and isn't only a container for the record or another change."""
    if isinstance(change, AddedElement):
        return change.path not in (METADATA, HOLDER)
    return not isinstance(change, Declared)


def _with_record(document: Document, noted: Record) -> Document:
    """The document with this record in place of its old record."""
    earlier = record.read(document)
    if earlier is not None:
        document = document.remove(record.elements(document), earlier.ending)
    while (holder := find(document.root, HOLDER)) is None:
        step = _holder(document)
        noted = noted.with_change(step.change, step.before)
        document = step.after
    noted = replace(noted, ending=document.ending(holder))
    after = next(holder.iterchildren(etree.Element, reversed=True), None)
    return document.insert(holder, [noted.element(prefix_of(holder, VIRTCPR_NS) or "")], after)


def _holder(document: Document) -> Step:
    """One step towards the element that contains the record."""
    metadata = find(document.root, METADATA)
    if metadata is None:
        return add(document, document.root, template.Part(METADATA, {}))
    change = AddedElement(HOLDER, {}, document.ending(metadata))
    after = next(metadata.iterchildren(etree.Element, reversed=True), None)
    return Step(
        document, change, document.insert(metadata, [New("virtcpr:domain", {"xmlns:virtcpr": VIRTCPR_NS})], after)
    )
