"""Tell a guest that it is about to be paused, or was: its guest agent runs the program that its metadata names."""

from __future__ import annotations

import logging

from virtcpr.domain import qmp
from virtcpr.domain.facts import DomainFacts
from virtcpr.domain.notice import Notice
from virtcpr.errors import ParseError, VirtcprError
from virtcpr.host.libvirt.connection import Connection, Domain
from virtcpr.host.system.wait import wait_until

log = logging.getLogger(__name__)
BEFORE, AFTER = "before-pause", "after-pause"
POLL = 0.05
ANSWER_SECONDS = 5  # for one question to the agent
# A daemon that was just started lists a guest long before it has connected to that one's agent, and asking the agent
# waits for no job (qemuProcessReconnect in src/qemu/qemu_process.c, qemuDomainQemuAgentCommand in qemu_driver.c).
CONNECT_SECONDS = 10


def ask(connection: Connection, facts: DomainFacts) -> str | None:
    """Before the pause: why the guest isn't to be moved; None: it may be.

    Only a guest whose metadata says so can object; one whose metadata can't be understood does, too.
    """
    try:
        notice = facts.live.notice
    except ParseError as error:
        return error.message
    if notice is None:
        return None
    problem = _run(connection, facts, notice, BEFORE)
    if problem and not notice.veto:
        log.warning("%s: %s; it is moved all the same", facts.name, problem)
    return problem if notice.veto else None


def tell(connection: Connection, facts: DomainFacts) -> None:
    """After it, whatever became of the move.  A failure is only logged."""
    try:
        notice = facts.live.notice
    except ParseError:  # `ask` has said so
        return
    if notice is not None and (problem := _run(connection, facts, notice, AFTER)):
        log.warning("%s: %s", facts.name, problem)


def _run(connection: Connection, facts: DomainFacts, notice: Notice, event: str) -> str | None:
    """What went wrong, None if nothing did."""
    try:
        domain = connection.lookup(facts.uuid)
        wait_until(lambda: _stopped(domain) or domain.agent_answers(ANSWER_SECONDS), CONNECT_SECONDS, poll=POLL)
        arguments = {"path": notice.command, "arg": [event]}
        started = qmp.obj(domain.agent("guest-exec", arguments, ANSWER_SECONDS))
        pid = int(str(started["pid"]))
        ended = wait_until(
            lambda: _status(domain, pid), notice.timeout_s, until=lambda status: status["exited"], poll=POLL
        )
    except (VirtcprError, KeyError, ValueError, TypeError, AttributeError) as error:
        return f"its guest agent can't run {notice.command} {event}: {error}"
    if not ended["exited"]:
        return f"{notice.command} {event} in the guest took more than {notice.timeout_s:g} s"
    code = ended.get("exitcode")
    return None if code == 0 else f"{notice.command} {event} in the guest failed (exit code {code})"


def _stopped(domain: Domain) -> bool:
    """libvirt asks the agent of no guest that is suspended, or shut off."""
    return domain.state()[0] != "running"


def _status(domain: Domain, pid: int) -> dict[str, object]:
    return dict(qmp.obj(domain.agent("guest-exec-status", {"pid": pid}, ANSWER_SECONDS)))
