"""How long the commands take that only look: what an administrator waits for before any maintenance.

And libvirt's hooks, if nothing was interrupted: libvirt waits for them whenever its daemon or a domain starts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from tests.bench.figures import Item, Row
from tests.lab.support import client
from tests.lab.support.client import run, shell
from tests.lab.support.guests import SMALL, Shape, domain_xml, image_commands

DEFINED, LISTED, RUNNING, TURNS = 50, 200, 5, 5
HOOK_TURNS = 50
HOOKS = {
    "qemu-other": "qemu.d/virtcpr probe started begin -",
    "qemu-prepare": "qemu.d/virtcpr probe prepare begin -",
    "daemon": "daemon.d/virtcpr - start - start",
}


def rows() -> Iterator[Item]:
    """On a host with 50 defined domains of which five run; ``list`` of 200, of which five run."""
    define(range(DEFINED))
    for shape in (_shape(number) for number in range(RUNNING)):
        for command in image_commands(shape):
            run(*command)
        # Suspended: they are looked at, and don't take the processor from whoever looks.
        shell(f"virsh -q start {shape.name}; virsh -q suspend {shape.name}")
    shell("cat > /root/usual.xml", stdin=domain_xml(replace(SMALL, prepared=False)))
    names = " ".join(_shape(number).name for number in range(DEFINED))
    yield _timed("check", f"check --all, {DEFINED} domains defined and {RUNNING} of them running", "check --all", 3.0)
    yield _timed("check-named", f"check of all {DEFINED} domains by name", f"check {names}", 3.0)
    yield _timed("prepare", "prepare --xml", "prepare --xml /root/usual.xml", 0.5)
    yield _timed("help", "--help", "--help", 0.25)
    define(range(DEFINED, LISTED))
    yield _timed("list", f"list of {LISTED} domains, {RUNNING} of them running", "list", 1.5)
    for number in range(RUNNING):
        client.remove(_shape(number).name)
    shell(f"for n in $(seq {RUNNING} {LISTED - 1}); do virsh -q undefine looked$n; done")
    yield from hooks()


def _shape(number: int) -> Shape:
    return replace(SMALL, name=f"looked{number}", nics=0)


def define(numbers: range) -> None:
    script = f"""
xml=$(cat)
for n in $(seq {numbers.start} {numbers.stop - 1}); do
    printf '%s' "$xml" | sed "s/looked-/looked$n-/; s/<name>looked/<name>looked$n/" | virsh -q define /dev/stdin
done
"""
    shell(script, stdin=domain_xml(replace(SMALL, name="looked", nics=0)))


def _timed(key: str, name: str, arguments: str, bound: float) -> Row:
    """Inside the lab: what it costs to get there doesn't count.  Start-up is included."""
    return Row(key, name, _seconds(f"virtcpr {arguments}", TURNS), bound=bound, unit="s")


def _seconds(command: str, turns: int, stdin: str = "") -> list[float]:
    script = f"""
import json, subprocess, time
seconds = []
for _ in range({turns}):
    begun = time.monotonic()
    done = subprocess.run({command.split()}, stdout=subprocess.DEVNULL, input={stdin.encode()!r})
    assert done.returncode in (0, 4), done
    seconds.append(time.monotonic() - begun)
print(json.dumps(seconds))
"""
    found: list[float] = json.loads(run("python3", "-c", script).out)
    return found


def hooks() -> Iterator[Row]:
    run("virtcpr", "hooks", "install")
    xml = domain_xml(replace(SMALL, uuid="6b1a0f5e-0d0c-4d5a-9a5e-000000000001"))
    for key, words in HOOKS.items():
        seconds = _seconds(f"/etc/libvirt/hooks/{words}", HOOK_TURNS, xml)
        what = f"libvirt's hook, nothing interrupted: {words.replace('/virtcpr probe', '').replace('/virtcpr', '')}"
        yield Row(f"hook-{key}", what, [one * 1000 for one in seconds], bound=5)
    yield Row("hook-none", "a process that does nothing, for comparison: /bin/sh -c :",
              [one * 1000 for one in _seconds("/bin/sh -c :", HOOK_TURNS)])  # fmt: skip
