"""A guest between two builds of one QEMU: there, back, and what goes wrong on the way."""

from __future__ import annotations

import json
from typing import Any

from tests.lab.support import client, provoke
from tests.lab.support.builds import EMULATOR, REBUILT
from tests.lab.support.client import Done, run, virsh

OPTIONS = ("--no-rehearse", "--yes", "-o", "json", "--emulator")


def other(name: str) -> str:
    """The build that the guest doesn't run in."""
    return EMULATOR if f"<emulator>{REBUILT}<" in virsh("dumpxml", name) else REBUILT


def move(name: str, *warnings: str) -> None:
    """To the other build, with these warnings alone."""
    report = client.upgrade("--emulator", other(name), name)
    assert len(report["domains"]) == 1, report
    (domain,) = report["domains"]
    assert [finding["code"] for finding in domain["findings"]] == list(warnings), report
    assert domain["result"] == "upgraded", report


def _disturbed(name: str, step: str, happening: str) -> Done:
    return provoke.virtcpr("upgrade", name, *OPTIONS, other(name), at={step: happening})


def rolled_back(name: str, step: str, happening: str) -> Any:
    """A move in which that happens at that step; the guest stays in its process.  Returns the report."""
    process = client.pid(name)
    done = _disturbed(name, step, happening)
    report = json.loads(done.out)
    assert report["domains"][0]["result"] == "rolled-back", done
    assert client.pid(name) == process
    return report


def killed(name: str, step: str) -> None:
    """virtcpr is killed at that step, and the guardian settles it: one QEMU has the guest."""
    assert _disturbed(name, step, "kill -9 $PPID").code != 0
    provoke.await_guardian()
    assert run("pgrep", "qemu-system").out.split() == [str(client.pid(name))]
