"""How long the commands take that only look: what an administrator waits for before any maintenance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median

from tests.lab.support import client
from tests.lab.support.client import run, shell
from tests.lab.support.guests import SMALL, domain_xml, image_commands

DEFINED, RUNNING, TURNS = 50, 5, 5


@dataclass(frozen=True)
class Timing:
    """Seconds of wall time, start-up included; ``bound`` in seconds, too."""

    name: str
    seconds: list[float]
    bound: float

    @property
    def within(self) -> bool:
        return median(self.seconds) <= self.bound

    def __str__(self) -> str:
        figures = " ".join(f"{value:.2f}" for value in self.seconds)
        verdict = "within" if self.within else "OVER"
        return f"{self.name}\n    {figures}  median {median(self.seconds):.2f} s, {verdict} {self.bound:g} s"


def timings() -> list[Timing]:
    """All of them, on a host with 50 defined domains of which five run."""
    shapes = [replace(SMALL, name=f"many{number}", number=60 + number, nics=0) for number in range(DEFINED)]
    for number, shape in enumerate(shapes):
        shell("virsh -q define /dev/stdin", stdin=domain_xml(shape))
        if number < RUNNING:
            for command in image_commands(shape):
                run(*command)
            # Suspended: they are looked at, and don't take the processor from whoever looks.
            shell(f"virsh -q start {shape.name}; virsh -q suspend {shape.name}")
    shell("cat > /root/usual.xml", stdin=domain_xml(replace(SMALL, prepared=False)))
    names = " ".join(shape.name for shape in shapes)
    found = [
        _timed(f"check --all, {DEFINED} domains defined and {RUNNING} of them running", "check --all", 3.0),
        _timed(f"check of all {DEFINED} domains by name", f"check {names}", 3.0),
        _timed("prepare --xml", "prepare --xml /root/usual.xml", 0.5),
        _timed("--help", "--help", 0.3),
    ]
    for shape in shapes:
        client.remove(shape.name)
    return found


def _timed(name: str, arguments: str, bound: float) -> Timing:
    """Inside the lab: what it costs to get there doesn't count."""
    command = f"virtcpr {arguments}".split()
    script = f"""
import subprocess, time
begun = time.monotonic()
done = subprocess.run({command}, stdout=subprocess.DEVNULL)
assert done.returncode in (0, 4), done
print(time.monotonic() - begun)
"""
    seconds = [float(run("python3", "-c", script).out) for _ in range(TURNS)]
    return Timing(name, seconds, bound)
