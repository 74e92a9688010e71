"""Kill things in the middle of an upgrade (inside/strike.py, inside/halt.py), and see who has the guest afterwards."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILD, REBUILT
from tests.lab.support.chaos_moments import AGAIN, LOST, NEW, OLD, RESET
from tests.lab.support.client import LabCommandError, Witness, run, shell, virsh
from tests.lab.support.guests import SMALL, Shape, lively
from tests.paths import INSIDE

SCRIPTS = "/root/chaos"
# What the vCPUs of a process use that has given the guest away is next to nothing, and some ms on a busy host where it
# is killed and they end; a guest takes far more in the time that virtcpr stands still.
BOTH_MS = 20.0
LIVELY = lively(SMALL)  # two owners show by the CPU time that both take

FULL = os.environ.get("VIRTCPR_CHAOS") == "full"


@dataclass(frozen=True)
class Case:
    """When, who is killed, and who settles it where that is virtcpr."""

    moment: str
    victims: tuple[str, ...]
    then: str = ""

    @property
    def column(self) -> str:
        return " ".join((*self.victims, f"→{self.then}" if self.then else "")).strip()

    @property
    def name(self) -> str:
        return "-".join((*self.victims, *filter(None, [self.then]), self.moment.replace(" ", "-")))


def strike(domain: str, case: Case, **more: object) -> dict[str, Any]:
    """An upgrade to the other of two builds in which this happens: what was seen (``inside.strike.Seen``)."""
    order = {"domain": domain, "emulators": [EMULATOR, REBUILT], "then": case.then, **more}
    order |= {"moment": case.moment, "victims": case.victims}
    command = ("env", f"SLOWNESS={client.slowness()}", "python3", f"{SCRIPTS}/strike.py")
    seen: dict[str, Any] = json.loads(run(*command, stdin=json.dumps(order), timeout=300).out)
    return seen


class Host:
    """The lab's host with one guest on it, which is brought back only where it was lost."""

    def __init__(self, shape: Shape = LIVELY, witness: Witness | None = None) -> None:
        """Everything is put in its place, the guest started, and saved as it is then: booting takes much longer."""
        run("python3", "-", stdin=REBUILD)
        run("virtcpr", "hooks", "install")
        for path in INSIDE.glob("*.py"):
            shell(f"mkdir -p {SCRIPTS}; cat > {SCRIPTS}/{path.name}", stdin=path.read_text())
        self.shape = shape
        self.saved = f"{SCRIPTS}/{shape.name}.saved"
        self.witness = witness or Witness()
        client.start(shape)
        self.watch()
        disk = shape.disk_path(0)
        shell(f"virsh -q save {shape.name} {self.saved}; cp {disk} {disk}.saved; virsh -q restore {self.saved}")
        self.watched = False

    def close(self) -> None:
        self.witness.close()
        client.remove(self.shape.name)

    def ready(self) -> None:
        """The guest runs, is watched, and nothing is left of the test before."""
        if not self.watched:
            run("virtcpr", "recover", "--all", check=False)  # a test that failed
            if virsh("domstate", self.shape.name).strip() != "running":
                disk = self.shape.disk_path(0)
                shell(f"cp {disk}.saved {disk}; virsh -q restore {self.saved}")
            self.watch()
        self.witness.mark()
        self.boot = self.witness.report(self.shape)["boot_mark"]

    def watch(self) -> None:
        try:
            self.witness.watch(self.shape, timeout=120)
        except LabCommandError:  # it hung while it booted
            virsh("reset", self.shape.name)
            self.witness.watch(self.shape, timeout=120)
        self.watched = True

    def strike(self, case: Case, **more: object) -> dict[str, Any]:
        self.watched = False
        return strike(self.shape.name, case, **more)

    def outcome(self, seen: dict[str, Any]) -> str:
        """Who has the guest.  Where somebody has it: one process, which is libvirt's, and nothing of it is wrong."""
        now, before = seen["now"], seen["before"]
        assert now["left"] == [], seen
        assert seen["both_ms"] < BOTH_MS * client.slowness(), seen
        if not now["active"]:
            assert now["qemus"] == [], seen
            return LOST
        assert now["qemus"] == [now["pid"]], seen
        assert (now["id"], now["uuid"]) == (before["id"], before["uuid"]), seen
        assert (now["running"], now["mode"]) == (True, "normal"), seen
        assert now["oom_score_adj"] == before["oom_score_adj"], seen
        marks = self.assert_well()
        if now["pid"] == before["pid"]:
            return OLD if marks == 1 else RESET
        if now["pid"] == seen["journal"].get("spare_pid"):
            return AGAIN if marks == 1 else RESET
        assert marks == 1, seen
        assert now["pid"] == (seen["journal"].get("new_pid") or now["pid"]), seen
        return NEW

    def assert_well(self) -> int:
        """The guest beats and all that it checks is right; how often it booted since the mark."""
        try:
            self.witness.beats(self.shape, 30, timeout=20)
        except LabCommandError:  # it boots
            self.watch()
        report = self.witness.report(self.shape)
        assert report["ram_errors"] == report["disk_errors"] == report["failures"] == 0, report
        assert report["duplicates_or_reordered"] == 0, report
        marks = {self.boot, *report["boot_marks_seen"]}
        self.watched = len(marks) == 1 and report["tcp_alive"]
        assert self.watched or len(marks) > 1, report
        return len(marks)
