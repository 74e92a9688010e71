"""``recover`` and ``hooks``: what they ask for, what they answer, and with which exit code."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.contract.conftest import Cli
from tests.contract.fake import FakeBackend
from tests.contract.schema import SCHEMA, checked
from virtcpr.model import ExitCode, HookAction, RecoverReport, Settled

Golden = Callable[[str, str], None]


def test_recover(cli: Cli, golden: Golden) -> None:
    backend = FakeBackend()
    outcome = cli("recover", "--all", backend=backend)
    golden("recover.txt", outcome.out)
    assert outcome.code == 6
    assert backend.recoveries == [((), False, True)]


def test_recover_some(cli: Cli) -> None:
    backend = FakeBackend()
    cli("recover", "web", "--dry-run", backend=backend)
    cli("recover", "--all", "--from-hook", backend=backend)
    assert backend.recoveries == [(("web",), True, True), ((), False, False)]


def test_nothing_to_recover(cli: Cli) -> None:
    outcome = cli("recover", "--all", backend=FakeBackend(recovered=RecoverReport((), ExitCode.DONE)))
    assert (outcome.code, outcome.out) == (0, "nothing was interrupted\n")


def test_recover_in_json(cli: Cli) -> None:
    web, mail, db = checked(cli("recover", "--all", "-o", "json"))["domains"]
    assert (web["settled"], web["state"], web["old"], web["new"]) == ("back", "migrating", "running", "gone")
    assert (mail["settled"], mail["text"]) == ("waiting", "its state waits for virtcpr restore")
    assert db["settled"] == "unknown"


def test_the_schema_knows_every_way_to_settle() -> None:
    settled = SCHEMA["$defs"]["recovered"]["properties"]["settled"]["enum"]
    assert settled == [one.value for one in Settled]


def test_help(cli: Cli) -> None:
    said = " ".join(cli("recover", "--help").out.split())
    assert "Interrupted saves and restores are settled, too" in said
    assert "its state waits for virtcpr restore" in said


def test_which_domains(cli: Cli) -> None:
    outcome = cli("recover")
    assert outcome.code == 2
    assert "which domains?" in outcome.err


@pytest.mark.parametrize("action", list(HookAction))
def test_hooks(cli: Cli, action: HookAction) -> None:
    backend = FakeBackend()
    outcome = cli("hooks", action.value, backend=backend)
    assert backend.actions == [action]
    assert "installed  /etc/libvirt/hooks/daemon.d/virtcpr" in outcome.out


def test_hooks_in_json(cli: Cli) -> None:
    document = checked(cli("hooks", "status", "-o", "json"))
    assert document["hooks"] == [
        {"name": "libvirt-daemon", "path": "/etc/libvirt/hooks/daemon.d/virtcpr", "state": "installed"}
    ]
