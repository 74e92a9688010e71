"""QMP by libvirt's daemon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest

from virtcpr.actions.monitor.passthrough import Passthrough
from virtcpr.errors import HostError, QmpError, QmpRefused


class Domain:
    def __init__(self, *answers: Exception | object) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[object, ...]] = []

    def _answer(self) -> object:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def monitor(self, command: str, arguments: Mapping[str, object]) -> object:
        self.asked.append((command, dict(arguments)))
        return self._answer()

    def monitor_with(self, fd: int, command: str, arguments: Mapping[str, object]) -> object:
        self.asked.append((fd, command, dict(arguments)))
        return self._answer()


def asked(daemon: Passthrough, *arguments: Any, **more: Any) -> object:
    return asyncio.run(daemon.execute(*arguments, **more))


def test_commands_go_by_libvirt_with_their_descriptor() -> None:
    domain: Any = Domain({"status": "running"}, {})
    daemon = Passthrough("web (old QEMU)", lambda: domain)
    assert asked(daemon, "query-status") == {"status": "running"}
    asked(daemon, "getfd", {"fdname": "a"}, fd=7)
    assert domain.asked == [("query-status", {}), (7, "getfd", {"fdname": "a"})]


def test_a_refusal_is_qemus_and_a_failure_names_the_domain() -> None:
    domain: Any = Domain(QmpRefused("web: QEMU refused migrate: no"), HostError("libvirt: it is gone", hint="start it"))
    daemon = Passthrough("web (old QEMU)", lambda: domain)
    with pytest.raises(QmpRefused, match="QEMU refused migrate: no"):
        asked(daemon, "migrate")
    with pytest.raises(QmpError, match=r"web \(old QEMU\): libvirt: it is gone") as caught:
        asked(daemon, "query-status")
    assert caught.value.hint == "start it"
    assert not isinstance(caught.value, QmpRefused)


def test_the_domain_is_looked_for_once_and_again_where_the_daemon_started_anew() -> None:
    found: list[Any] = []

    def find() -> Any:
        found.append(Domain({}, {}))
        return found[-1]

    daemon = Passthrough("web", find)
    asked(daemon, "query-status")
    asked(daemon, "query-status")
    daemon.renew()
    asked(daemon, "query-status")
    assert [len(domain.asked) for domain in found] == [2, 1]


def test_a_command_that_libvirt_has_is_waited_for_when_it_is_cancelled() -> None:
    """It may be executed still, after what takes it back."""
    domain: Any = Domain({})
    answer = domain._answer

    def slowly() -> object:
        time.sleep(0.2)
        return answer()

    domain._answer = slowly
    daemon = Passthrough("web", lambda: domain)

    async def cancelled() -> list[object]:
        task = asyncio.create_task(daemon.execute("migrate-set-parameters", {"mode": "cpr-transfer"}))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()
        return list(domain.answers)

    assert asyncio.run(cancelled()) == [], "it was answered"
