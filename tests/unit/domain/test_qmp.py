"""An answer of QEMU's that isn't as QAPI defines it is a ParseError that names what is wrong, wherever it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import cast

import pytest

from virtcpr.actions.transfer import reconnect_check
from virtcpr.domain import qmp
from virtcpr.errors import HostError, ParseError, QmpRefused
from virtcpr.host.libvirt import calls, connection
from virtcpr.host.libvirt.connection import Domain
from virtcpr.host.qemu.qmp import Monitor
from virtcpr.plan.reconnect import QUERIES

WRONG: tuple[tuple[Callable[[], object], str], ...] = (
    (lambda: qmp.obj({})["status"], "QEMU answered an object without 'status'"),
    (lambda: qmp.obj([]), "QEMU answered list instead of an object"),
    (lambda: qmp.obj(None), "QEMU answered nothing instead of an object"),
    (lambda: qmp.items({}), "QEMU answered dict instead of a list"),
    (lambda: qmp.text(7), "QEMU answered int instead of a text"),
    (lambda: qmp.number("7"), "QEMU answered str instead of a number"),
    (lambda: qmp.number(True), "QEMU answered bool instead of a number"),
    (lambda: qmp.version({"qemu": {"major": 10, "minor": 0}}), "QEMU answered an object without 'micro'"),
    (lambda: qmp.threads([{"cpu-index": 0}]), "QEMU answered an object without 'thread-id'"),
    (lambda: qmp.children([{"name": "a", "type": None}, {"name": "b"}]), "QEMU answered an object without 'type'"),
    (
        lambda: qmp.migration_modes(
            [
                {"name": "migrate-set-parameters", "arg-type": "1"},
                {"name": "1", "members": [{"name": "mode", "type": "2"}]},
            ]
        ),
        "QEMU answered nothing instead of an object",
    ),
)


@pytest.mark.parametrize(("reading", "words"), WRONG)
def test_what_is_missing_or_of_another_kind_is_named(reading: Callable[[], object], words: str) -> None:
    with pytest.raises(ParseError) as raised:
        reading()
    assert raised.value.message == words


def test_what_may_be_left_out_may_be() -> None:
    answer = qmp.obj({"status": "running"})
    assert (answer["status"], answer.get("mode"), qmp.text(answer.get("mode"))) == ("running", None, "")
    assert answer == {"status": "running"}


@pytest.mark.parametrize("answer", [None, 7, "x", {}, [{}], [7], [{"props": []}], {"return": {}}], ids=str)
def test_whatever_libvirt_would_be_answered_is_understood_or_a_parse_error(answer: object) -> None:
    for question in QUERIES:
        with suppress(ParseError):
            question.reads(answer)


def test_before_the_daemon_starts_it_is_said_what_was_asked_of_whom() -> None:
    async def execute(*_: object) -> object:
        return {}

    monitor = cast(Monitor, SimpleNamespace(name="web", execute=execute))
    (question,) = (query for query in QUERIES if query.command == "query-status")
    with pytest.raises(HostError) as raised:
        asyncio.run(reconnect_check._ask(monitor, question))
    assert raised.value.message == (
        "web answered query-status with something unexpected: QEMU answered an object without 'status'"
    )


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        ('{"error": {"desc": "no"}}', QmpRefused, "web: QEMU refused query-status: no"),
        ("{}", ParseError, "web answered query-status with something unexpected: neither 'return' nor 'error'"),
        ("[]", ParseError, "web answered query-status with something unexpected: neither 'return' nor 'error'"),
        ("", ParseError, "web answered query-status with something unexpected: Expecting value"),
    ],
)
def test_through_libvirt_too(reply: str, error: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Bindings:
        libvirtError = OSError

        @staticmethod
        def qemuMonitorCommand(*_: object) -> str:
            return reply

        @staticmethod
        def qemuMonitorCommandWithFiles(*_: object) -> tuple[str, list[int]]:
            return reply, []

    for place in (calls, connection):
        monkeypatch.setattr(place, "bindings", lambda: (Bindings, Bindings))
    domain = Domain(None, "web", "", 1)
    with pytest.raises(error) as raised:
        domain.monitor("query-status")
    assert str(raised.value).startswith(words)
    with pytest.raises(error) as raised:
        domain.monitor_with(0, "query-status", {})
    assert str(raised.value).startswith(words)
