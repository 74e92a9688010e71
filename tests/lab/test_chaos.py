"""Everything is killed at every state of the journal: the guest lives, has one owner, and libvirt knows which."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import client
from tests.lab.client import LAB, LabCommandError, Witness, run, virsh
from tests.lab.guests import SMALL
from tests.lab.machine import Lab
from tests.lab.test_failure import EMULATOR, REBUILD, REBUILT, leftovers, qemu_processes

FREEZE = Path(__file__).with_name("freeze.py").read_text()
TOO_LATE = 3  # freeze.py
STATES = ("spawned", "migrating", "received", "committing", "running", "adopted")


class Host:
    """The lab's host with one guest on it, which is started again only where it was lost."""

    def __init__(self) -> None:
        self.witness = Witness()
        self.identity = ("", "")

    def ready(self) -> None:
        """The guest runs, is watched, and nothing is left of the test before."""
        if virsh("domstate", SMALL.name).strip() != "running":
            virsh("start", SMALL.name)
        try:
            self.witness.watch(SMALL, timeout=90)
        except LabCommandError:  # it hung while it booted
            virsh("reset", SMALL.name)
            self.witness.watch(SMALL, timeout=90)
        self.identity = (virsh("domid", SMALL.name).strip(), virsh("domuuid", SMALL.name).strip())
        self.witness.mark()

    def assert_settled(self, *, booted: bool = False) -> None:
        """One QEMU runs the guest, libvirt has it as the domain that it was, and nothing of it is wrong."""
        assert virsh("domstate", SMALL.name).strip() == "running"
        assert (virsh("domid", SMALL.name).strip(), virsh("domuuid", SMALL.name).strip()) == self.identity
        assert qemu_processes() == 1
        assert client.pid(SMALL.name) == int(run("pgrep", "qemu-system").out)
        assert client.monitor(SMALL.name, "query-status")["running"] is True
        assert client.monitor(SMALL.name, "query-migrate-parameters")["mode"] == "normal"
        assert leftovers() == ""
        if booted:
            self.witness.watch(SMALL, timeout=90)
        self.witness.beats(SMALL, 300, timeout=60)
        report = self.witness.report(SMALL)
        assert report["ram_errors"] == report["disk_errors"] == report["failures"] == 0, report
        assert len(report["boot_marks_seen"]) == 1, report
        assert report["duplicates_or_reordered"] == 0, report


@pytest.fixture(scope="module")
def host(lab: Lab) -> Iterator[Host]:
    run("python3", "-", stdin=REBUILD)
    run("virtcpr", "hooks", "install")
    client.start(SMALL)
    made = Host()
    yield made
    made.witness.close()
    client.remove(SMALL.name)


def killed(state: str, victim: str, *alone: str) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
    """An upgrade in which something is killed: the journal of that moment, and how virtcpr ended.

    Some states pass within a millisecond: an upgrade that was too fast has just worked, and another one is begun.
    """
    for _ in range(10):
        attempt = _killed(state, victim, *alone)
        if attempt is not None:
            return attempt
    raise AssertionError(f"virtcpr was never caught at {state}")


def _killed(state: str, victim: str, *alone: str) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]] | None:
    other = EMULATOR if f"<emulator>{REBUILT}<" in virsh("dumpxml", SMALL.name) else REBUILT
    command = [str(LAB), "exec", "virtcpr", "upgrade", SMALL.name, "--emulator", other, "--yes", "-o", "json"]
    freezer = [str(LAB), "exec", "python3", "-c", FREEZE, state, victim, *alone]
    with subprocess.Popen(freezer, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as freeze:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
        out, err = freeze.communicate(timeout=70)
    if freeze.returncode == TOO_LATE:
        assert done.returncode == 0, done
        return None
    assert freeze.returncode == 0, (err, done)
    return json.loads(out), done


def settle(by: str) -> None:
    if by == "hook":
        run("systemctl", "start", "libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket", "libvirtd.service")
    elif by == "recover":
        run("virtcpr", "recover", "--all")
    settled = '[ -z "$(ls /run/virtcpr/journal)" ] && virsh list >/dev/null 2>&1'
    run("timeout", "20", "sh", "-c", f"until {settled}; do sleep 0.05; done")


# Before the blackout there is no guardian yet, and after it the daemon runs: the hook has no turn.
SETTLERS = (
    ("spawned", "recover"),
    *((state, by) for state in STATES[1:-1] for by in ("guardian", "hook", "recover")),
    ("adopted", "guardian"),
    ("adopted", "recover"),
)


@pytest.mark.parametrize(("state", "by"), SETTLERS, ids=["-".join(pair) for pair in SETTLERS])
def test_virtcpr_is_killed(host: Host, state: str, by: str) -> None:
    host.ready()
    entry, done = killed(state, "virtcpr", *([] if by == "guardian" or state == "spawned" else ["alone"]))
    assert done.returncode in (-9, 137), done

    settle(by)

    host.assert_settled()
    owner = entry["old_pid"] if state in ("spawned", "migrating") else entry["new_pid"]
    if state != "migrating":  # it goes on for an instant: new may have had all of it
        assert client.pid(SMALL.name) == owner


# Who has the guest afterwards.  At `received` new may have all of it already, or not.
KILLED = (
    ("old", "spawned", {"lost"}),
    ("old", "migrating", {"lost"}),
    ("old", "received", {"lost", "new"}),
    ("old", "committing", {"new"}),
    ("old", "running", {"new"}),
    ("new", "spawned", {"old"}),
    ("new", "migrating", {"old"}),
    ("new", "received", {"old"}),
    ("new", "committing", {"reset"}),
    ("new", "running", {"reset"}),
    ("new", "adopted", {"lost"}),
)
RESULTS = {("rolled-back", 5): {"old", "reset"}, ("upgraded", 0): {"new"}, ("failed", 1): {"lost"}}


@pytest.mark.parametrize(("victim", "state", "owners"), KILLED, ids=[f"{v}-{s}" for v, s, _ in KILLED])
def test_a_qemu_is_killed(host: Host, victim: str, state: str, owners: set[str]) -> None:
    """virtcpr lives, and settles it by itself."""
    host.ready()
    entry, done = killed(state, victim)
    report = json.loads(done.stdout)
    (owner,) = RESULTS[report["domains"][0]["result"], report["exit_code"]] & owners

    if owner == "lost":
        run("sh", "-c", f"until virsh domstate {SMALL.name} | grep -q 'shut off'; do sleep 0.1; done")
        assert qemu_processes() == 0
        assert leftovers() == ""
        return
    host.assert_settled(booted=owner == "reset")
    assert client.pid(SMALL.name) == entry["new_pid" if owner == "new" else "old_pid"]
