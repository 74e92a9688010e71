"""virtcpr in the lab while something goes wrong, and what must be true of the guest afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILD, REBUILT
from tests.lab.support.client import Done, LabCommandError, Witness, run, virsh
from tests.lab.support.guests import SMALL, domain_xml, image_commands
from tests.lab.support.leftovers import leftovers, qemu_processes
from tests.paths import INSIDE

MEANWHILE = (INSIDE / "meanwhile.py").read_text()
NAME = SMALL.name
POWER_OFF, PANIC, RESET = "o /w 0x604 0x2000", "o /b 0x505 1", "o /b 0xcf9 6"
DELETED = "try again: in a shared directory (virtiofs)"
DROP_IN = "/run/systemd/system/libvirtd.service.d/erring.conf"

IN_MODE_LIVE = {"migrate": "make", "incoming": "switch"}  # what its steps are called that do this
Happening = Mapping[str, str]
Saying = Mapping[str, tuple[str, str]]


def virtcpr(
    *arguments: str,
    at: Happening | None = None,
    say: Saying | None = None,
    deadlines: Mapping[str, object] | None = None,
) -> Done:
    """Run it with what happens meanwhile (meanwhile.py)."""
    named = IN_MODE_LIVE if client.MODE == "live" else {}
    order = {
        "at": {named.get(step, step): what for step, what in (at or {}).items()},
        "say": say or {},
        "deadlines": deadlines or {},
    }
    return run("python3", "-c", MEANWHILE, json.dumps(order), *arguments, check=False, timeout=240)


def upgrade(*, emulator: str | None = None, more: tuple[str, ...] = (), **meanwhile: Any) -> Any:
    """Move the guest to the other build, or to ``emulator``, which may run the same one; the report.

    No rehearsal: what fails here is the swap.  A guest that had just deleted a file in a shared directory gets a second
    try, as the report says.
    """
    report = _upgrade(emulator, more, **meanwhile)
    return _upgrade(emulator, more, **meanwhile) if DELETED in str(report) else report


def _upgrade(emulator: str | None, more: tuple[str, ...], **meanwhile: Any) -> Any:
    arguments = (
        *_by(more),
        "--no-rehearse",
        "--force",
        "--yes",
        "-o",
        "json",
        "--emulator",
        emulator or other(),
        *more,
    )
    done = virtcpr("upgrade", NAME, *arguments, **meanwhile)
    try:
        return json.loads(done.out)
    except ValueError as error:
        raise AssertionError(done) from error


def other() -> str:
    """The build that the guest doesn't run in."""
    return EMULATOR if f"<emulator>{REBUILT}<" in virsh("dumpxml", NAME) else REBUILT


def _by(more: tuple[str, ...]) -> tuple[str, ...]:
    return ("--mode", client.MODE) if client.MODE and "--mode" not in more else ()


def rehearsed() -> str:
    """What comes of a rehearsal of its move."""
    planned = json.loads(run("virtcpr", "plan", NAME, *_by(()), "--force", "-o", "json", check=False).out)
    return str(planned["domains"][0]["rehearsal"]["verdict"])


def killed_at(step: str, *more: str, kill: str = "kill -9 $PPID") -> int:
    """virtcpr is killed there, and the guardian has settled it; the one process that runs the guest."""
    killed = virtcpr("upgrade", NAME, *_by(more), "--yes", "--force", "--no-rehearse", *more, at={step: kill})
    assert killed.code != 0
    await_guardian()
    return int(run("pgrep", "qemu-system").out)


def await_guardian() -> None:
    """Nothing is unsettled any more, and libvirt's daemon answers."""
    run("timeout", "60", "sh", "-c", "while ls /run/virtcpr/journal/*.json; do sleep 0.1; done")
    run("timeout", "60", "sh", "-c", "until virsh -q list >/dev/null 2>&1; do sleep 0.1; done")


def said(report: Any) -> str:
    """What the report says of the guest."""
    (domain,) = report["domains"]
    return "\n".join(finding["message"] for finding in domain["findings"])


@contextmanager
def daemon_with(setting: str) -> Iterator[None]:
    """libvirtd's unit with one more line."""
    script = f"mkdir -p {DROP_IN.rpartition('/')[0]}; cat > {DROP_IN}; systemctl daemon-reload"
    run("sh", "-ec", script, stdin=f"[Service]\n{setting}\n")
    try:
        yield
    finally:
        run("sh", "-c", f"rm -f {DROP_IN}; systemctl daemon-reload")


def await_shut_off() -> None:
    """libvirt's daemon, which may just have been started, says that the guest is shut off."""
    run("timeout", "20", "sh", "-c", f"until virsh domstate {NAME} | grep -q 'shut off'; do sleep 0.1; done")


class Guest:
    """One guest for the tests of a module; it is started again only where a test has ended it."""

    def __init__(self, devices: str = "", **different: Any) -> None:
        """``devices``: XML of more of them.  ``different``: what of the guest isn't SMALL's."""
        run("python3", "-", stdin=REBUILD)
        for command in image_commands(SMALL):
            run(*command)
        xml = domain_xml(replace(SMALL, agent=True, **different)).replace(
            "</devices>", f"<panic model='isa'/>{devices}</devices>"
        )
        run("virsh", "-q", "define", "/dev/stdin", stdin=xml)
        self.witness = Witness()

    def runs(self) -> int:
        """It runs, watched or not; its process."""
        if virsh("domstate", NAME).strip() != "running":
            run("virsh", "-q", "destroy", NAME, check=False)
            virsh("start", NAME)
        return client.pid(NAME)

    def is_watched(self) -> int:
        """It runs and its witness is heard; its process."""
        process = self.runs()
        try:
            self.witness.watch(SMALL, timeout=90)
        except LabCommandError:  # it hung while it booted
            virsh("reset", NAME)
            self.witness.watch(SMALL, timeout=90)
        self.witness.mark()
        return process

    def assert_well(self, process: int) -> None:
        """One QEMU runs it, this one; libvirt knows; nothing of a swap is left, and the witness has no complaint."""
        assert virsh("domstate", NAME).strip() == "running"
        assert run("pgrep", "qemu-system").out.split() == [str(process)]
        assert client.pid(NAME) == process
        assert client.monitor(NAME, "query-status")["running"] is True
        assert client.monitor(NAME, "query-migrate-parameters")["mode"] == "normal"
        assert leftovers() == ""
        self.witness.beats(SMALL, 30, timeout=60)
        report = self.witness.report(SMALL)
        assert report["ram_errors"] == report["disk_errors"] == report["failures"] == 0, report
        assert report["duplicates_or_reordered"] == 0, report
        assert len(report["boot_marks_seen"]) == 1, report

    def assert_ended(self) -> None:
        """It is shut off, and nothing of it is left."""
        await_shut_off()
        assert qemu_processes() == 0
        assert leftovers() == ""

    def end(self) -> None:
        self.witness.close()
        client.remove(NAME)


def new_process(report: Any) -> int:
    return int(report["domains"][0]["to"]["pid"])
