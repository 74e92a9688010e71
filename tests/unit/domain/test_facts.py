"""What the facts' texts say is read once, and is no part of what the facts are."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from tests.unit.support import facts
from virtcpr.domain.argv import CommandLine
from virtcpr.domain.facts import DomainFacts
from virtcpr.errors import ParseError


def test_texts_are_read_once() -> None:
    domain = facts.domain()
    assert domain.process is not None
    assert domain.live is domain.live
    assert domain.stored is domain.stored
    assert domain.status is domain.status
    assert domain.process.line is domain.process.line


def test_what_was_read_is_what_the_texts_say() -> None:
    domain = facts.domain()
    assert domain.process is not None
    assert (domain.live.uuid, domain.status.uuid) == (domain.uuid, domain.uuid)
    assert domain.process.line == CommandLine.parse(domain.process.argv)


def test_facts_that_were_read_are_equal_to_facts_that_were_not() -> None:
    domain, other = facts.domain(), facts.domain()
    assert domain.live.name == domain.name
    assert domain.status.pid
    assert domain == other
    assert repr(domain) == repr(other)
    assert asdict(domain) == asdict(other)


def test_another_text_is_read_anew() -> None:
    domain = facts.domain()
    assert domain.live.name == domain.name
    assert replace(domain, xml="<domain><name>other</name></domain>").live.name == "other"


def test_a_transient_domain_has_nothing_stored() -> None:
    assert replace(facts.domain(), persistent_xml=None).stored is None


@pytest.mark.parametrize(
    ("changes", "member"),
    [
        ({"xml": "<network/>"}, "live"),
        ({"xml": ""}, "live"),
        ({"persistent_xml": "<network/>"}, "stored"),
        ({"status_xml": ""}, "status"),
        ({"status_xml": "<domain/>"}, "status"),
    ],
)
def test_what_is_none_raises_whenever_it_is_read(changes: dict[str, Any], member: str) -> None:
    domain = replace(facts.domain(), **changes)
    for _ in range(2):
        with pytest.raises(ParseError):
            getattr(domain, member)


def test_a_command_line_that_is_none_raises() -> None:
    with pytest.raises(ParseError, match="empty command line"):
        _ = replace(facts.process(), argv=()).line


def test_facts_of_a_document() -> None:
    xml = "<domain><name>a</name><uuid>b</uuid><devices><emulator>/q</emulator></devices></domain>"
    known = DomainFacts.of_document(xml)
    assert (known.name, known.uuid, known.emulator.path, known.xml) == ("a", "b", "/q", xml)
    assert known.offline
    assert known.id is None
    with pytest.raises(ParseError):
        DomainFacts.of_document("<network/>")
