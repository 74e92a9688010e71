"""Telling a guest: what it is asked to run, when it may object, and what its agent can do wrong."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.unit.support import facts
from virtcpr.actions.rollout import guest
from virtcpr.domain.facts import DomainFacts
from virtcpr.errors import HostError, UsageError


def domain(notice: str) -> DomainFacts:
    made = facts.domain()
    metadata = f"<metadata><notice xmlns='urn:virtcpr:notice:1' {notice}/></metadata>"
    return replace(made, xml=made.xml.replace("<devices>", f"{metadata}<devices>", 1))


@dataclass
class Agent:
    """A connection, its domain and that one's agent.

    ``code``: with which the program ends, None: never.  ``away``: so often it isn't connected.  ``does``: its state.
    """

    code: int | None = 0
    problem: str | None = None
    gone: bool = False
    away: int = 0
    does: str = "running"
    ran: list[tuple[str, list[str]]] = field(default_factory=list)
    looks: int = 0

    def lookup(self, _uuid: str) -> Agent:
        if self.gone:
            raise UsageError("no domain")
        return self

    def state(self) -> tuple[str, str]:
        return self.does, ""

    def agent_answers(self, seconds: int) -> bool:
        assert seconds == guest.ANSWER_SECONDS
        self.away -= 1
        return self.problem is None and self.away < 0

    def agent(self, command: str, arguments: Mapping[str, Any], _seconds: int) -> object:
        if self.problem or self.away > 0:
            raise HostError(self.problem or "QEMU guest agent is not connected")
        if command == "guest-exec":
            self.ran.append((arguments["path"], arguments["arg"]))
            return {"pid": 7}
        assert (command, arguments) == ("guest-exec-status", {"pid": 7})
        self.looks += 1
        if self.code is None or self.looks < 2:
            return {"exited": False}
        return {"exited": True, "exitcode": self.code}


def ask(agent: Any, domain: DomainFacts) -> str | None:
    return guest.ask(agent, domain)


def test_most_guests_want_to_be_told_nothing() -> None:
    agent: Any = Agent()
    assert ask(agent, facts.domain()) is None
    guest.tell(agent, facts.domain())
    assert agent.ran == []


def test_before_and_after() -> None:
    agent: Any = Agent()
    told = domain("command='/sbin/note' veto='yes'")
    assert ask(agent, told) is None
    guest.tell(agent, told)
    assert agent.ran == [("/sbin/note", ["before-pause"]), ("/sbin/note", ["after-pause"])]


def test_a_daemon_that_was_just_started_connects_to_the_agent_first() -> None:
    agent: Any = Agent(away=3)
    told = domain("command='/sbin/note' veto='yes'")
    assert ask(agent, told) is None
    agent.away = 3
    guest.tell(agent, told)
    assert agent.ran == [("/sbin/note", ["before-pause"]), ("/sbin/note", ["after-pause"])]


def test_nobody_waits_for_the_agent_of_a_guest_that_is_suspended() -> None:
    agent: Any = Agent(does="paused", away=2)
    assert "is not connected" in str(ask(agent, domain("command='/sbin/note' veto='yes'")))
    assert agent.away == 2


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (Agent(code=3), "/sbin/note before-pause in the guest failed (exit code 3)"),
        (Agent(code=None), "/sbin/note before-pause in the guest took more than 0.1 s"),
        (Agent(gone=True), "its guest agent can't run /sbin/note before-pause: no domain"),
        (Agent(problem="no agent"), "its guest agent can't run /sbin/note before-pause: no agent"),
    ],
)
def test_only_one_with_a_veto_objects(
    agent: Any, words: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest, "CONNECT_SECONDS", 0.1)
    assert ask(agent, domain("command='/sbin/note' veto='yes' timeout='0.1'")) == words
    with caplog.at_level(logging.WARNING):
        assert ask(agent, domain("command='/sbin/note' timeout='0.1'")) is None
    assert f"{words}; it is moved all the same" in caplog.text


@pytest.mark.parametrize(
    ("notice", "words"),
    [
        ("command='note'", "needs a command, a path in the guest, not 'note'"),
        ("", "needs a command"),
        ("command='/n' timeout='soon'", "a timeout of up to 60 seconds, not 'soon'"),
        ("command='/n' timeout='61'", "not '61'"),
        ("command='/n' timeout='nan'", "not 'nan'"),
        ("command='/n' veto='maybe'", "the veto yes or no, not 'maybe'"),
    ],
)
def test_what_cannot_be_understood_is_no_leave_to_move_it(notice: str, words: str) -> None:
    agent: Any = Agent()
    assert words in str(ask(agent, domain(notice)))
    guest.tell(agent, domain(notice))
    assert agent.ran == []


def test_afterwards_a_failure_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    agent: Any = Agent(code=1)
    with caplog.at_level(logging.WARNING):
        guest.tell(agent, domain("command='/sbin/note' veto='yes'"))
    assert "after-pause in the guest failed (exit code 1)" in caplog.text
