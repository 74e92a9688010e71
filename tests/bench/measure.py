"""What every measurement needs: a guest's silence from outside, a move by virtcpr, bare QEMU beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.figures import Trace
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILT
from tests.lab.support.client import Witness, run
from tests.lab.support.guests import Shape
from tests.lab.support.kept import LabError

TURNS = 5
SETTLE_SECONDS, AFTER_SECONDS = 3, 1
INSIDE = Path(__file__).parent / "inside"


def put(script: str) -> str:
    """A script of ``inside/`` in the lab; its path there."""
    path = f"/root/{script}"
    run("sh", "-c", f"cat > {path}", stdin=(INSIDE / script).read_text())
    return path


def pause(witness: Witness, shape: Shape, act: Callable[[], object]) -> float:
    """The guest's longest silence while something is done to it, milliseconds.  LabError: it was reset."""
    settle(witness, shape, SETTLE_SECONDS)
    witness.mark()
    act()
    settle(witness, shape, AFTER_SECONDS)
    report = witness.report(shape)
    if report["boot_mark_switches"]:
        raise LabError(f"{shape.name} has booted anew: its silence of {report['pause_ms']} ms is no pause")
    return float(report["pause_ms"])


def settle(witness: Witness, shape: Shape, seconds: float) -> None:
    """Wait for as many beats as the guest sends in that time while it isn't held up."""
    witness.beats(shape, round(seconds * 1e6 / shape.interval_us), timeout=60)


def milliseconds(act: Callable[[], object]) -> float:
    """How long it takes."""
    begun = time.monotonic()
    act()
    return (time.monotonic() - begun) * 1000


def other_build(name: str) -> str:
    """The one of the two builds that the domain doesn't run."""
    return EMULATOR if f"<emulator>{REBUILT}<" in client.virsh("dumpxml", name) else REBUILT


def upgrade(name: str, *how: str) -> Any:
    """Move a guest to the other of the two builds; virtcpr's report."""
    report = client.upgrade(name, "--emulator", other_build(name), *how)
    if report["exit_code"] != 0:
        raise LabError(f"virtcpr failed: {json.dumps(report)}")
    return report


def moved(name: str, *how: str) -> float:
    """The pause of a guest that is moved alone, by QEMU's events, ms."""
    return float(upgrade(name, *how)["domains"][0]["pause_ms"])


@dataclass(frozen=True)
class Moved:
    """What a move of several guests took."""

    wall_s: float
    cpu_s: float
    rss_mib: float
    blackout_ms: float
    pauses: list[float]  # by QEMU's events, ms
    phases: list[tuple[str, float]]
    hung: bool  # libvirtd in its shutdown, until virtcpr killed it (virtcpr/host/libvirt/deadlock.py)


def move_all(count: int, emulator: str) -> Moved:
    """Move all guests; the twins, which try each kind of guest once, are left out."""
    command = f"-v upgrade --yes -o json --all --force --no-rehearse --emulator {emulator}"
    took = json.loads(run("python3", put("measured.py"), "virtcpr", *command.split(), timeout=600).out)
    report = json.loads(took["out"])
    domains = report["domains"]
    if [domain["result"] for domain in domains] != ["upgraded"] * count:
        raise LabError(f"virtcpr failed: {report}")
    return Moved(
        took["seconds"],
        took["cpu_s"],
        took["rss_mib"],
        report["blackout_ms"],
        [domain["pause_ms"] for domain in domains if domain["pause_ms"] is not None],
        [(phase["name"], phase["ms"]) for domain in domains for phase in domain["phases"]],
        "hangs in its shutdown" in took["err"],
    )


def traced(key: str, domains: str) -> Trace:
    """One more move, of which every step is noted; the builds don't matter to it."""
    file = "/root/spans.json"
    command = f"upgrade --yes -q --no-rehearse --force {domains}"
    run("python3", put("traced.py"), file, *command.split(), timeout=600)
    return Trace(key, json.loads(run("cat", file).out))


def bare_migrations(witness: Witness, shape: Shape, twin: Shape, turns: int, *, settle: int) -> list[dict[str, float]]:
    """Ordinary migrations by bare QEMU of a guest like ``shape``, which ends; ``settle``: beats before."""
    bare = BareGuests([(shape.name, twin.number)])
    client.remove(shape.name)
    bare.start()
    witness.watch(twin, timeout=300)
    witness.beats(twin, settle, timeout=120)
    found = []
    for turn in range(turns):
        (guest,) = bare.ask(f"migrate {(REBUILT, EMULATOR)[turn % 2]}")["guests"]
        found.append(guest)
        witness.beats(twin, 1000, timeout=60)
    bare.end()
    return found


class BareGuests:
    """inside/bare.py in the lab: a guest like each of these domains, under a number that decides its addresses."""

    def __init__(self, domains: Sequence[tuple[str, int]]) -> None:
        words = [str(word) for domain in domains for word in domain]
        self.process = client.beside("python3", put("bare.py"), *words)
        self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise LabError("bare QEMU failed: see /run/bare/*/log where it ran")
        return line

    def _tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, line: str) -> Any:
        self._tell(line)
        return json.loads(self._line())

    def start(self) -> None:
        self.ask("start")

    def swap(self, emulator: str) -> list[float]:
        """Move all of them; their pauses by QEMU's events, ms."""
        return [guest["pause_ms"] for guest in self.ask(f"swap {emulator}")["guests"]]

    def end(self) -> None:
        self._tell("end")
        self.process.wait(timeout=30 * client.slowness())
