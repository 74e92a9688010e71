"""``make bench``: pause against bare QEMU and RAM size, blackout against a restart of the daemon, memory, commands.

All in one run and in turn, on the same machine: quote the ratios and medians, not the milliseconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from tests.bench import many, reboot
from tests.bench.commands import timings
from tests.bench.measure import TURNS, Row, pause
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILD, REBUILT
from tests.lab.support.client import LAB, Witness, run, shell
from tests.lab.support.guests import SMALL, Shape
from tests.lab.support.kept import LabError
from tests.lab.support.machine import Lab, default_store

BARE = replace(SMALL, name="bare", number=30)
LARGE = replace(SMALL, name="large", number=31, memory_mib=4096, ram_mib=3584, kernel_options="witness.ram_pause=0")


class BareGuest:
    """bare.py in the lab."""

    def __init__(self, domain: str) -> None:
        run("sh", "-c", "cat > /root/bare.py", stdin=Path(__file__).with_name("bare.py").read_text())
        command = [str(LAB), "exec", "python3", "/root/bare.py", domain, str(BARE.number)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._await("ready")

    def _await(self, word: str) -> None:
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != word:
            raise LabError("bare QEMU failed: see /run/bare/log in the lab")

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def swap(self, emulator: str) -> None:
        self.tell(emulator)
        self._await("swapped")

    def end(self) -> None:
        self.tell("end")
        self.process.wait(timeout=30)


def upgrade(shape: Shape) -> dict[str, object]:
    """Move a guest to the other of the two builds."""
    other = EMULATOR if f"<emulator>{REBUILT}<" in client.virsh("dumpxml", shape.name) else REBUILT
    report: dict[str, object] = client.upgrade(shape.name, "--emulator", other)
    if report["exit_code"] != 0:
        raise LabError(f"virtcpr failed: {json.dumps(report)}")
    return report


def against_bare(witness: Witness) -> Row:
    bare = BareGuest(SMALL.name)
    witness.watch(BARE)
    ours, theirs = [], []
    for turn in range(TURNS):
        ours.append(pause(witness, SMALL, lambda: upgrade(SMALL)))
        theirs.append(pause(witness, BARE, lambda turn=turn: bare.swap((REBUILT, EMULATOR)[turn % 2])))  # type: ignore[misc]
    bare.end()
    return Row("pause, virtcpr against bare QEMU (ms)", ours, theirs, 1.5)


def against_ram_size(witness: Witness) -> tuple[Row, str]:
    client.start(LARGE)
    witness.watch(LARGE, timeout=300)
    large, small, taken = [], [], []
    for _ in range(TURNS):
        with MemoryWatch() as memory:
            large.append(pause(witness, LARGE, lambda: upgrade(LARGE)))
        taken.append(memory.taken_mib)
        small.append(pause(witness, SMALL, lambda: upgrade(SMALL)))
    client.remove(LARGE.name)
    text = f"memory taken on the host during a swap of {LARGE.memory_mib} MiB: {max(taken):.0f} MiB at most"
    return Row("pause, 4 GiB against 256 MiB of RAM (ms)", large, small, 1.3), text


class MemoryWatch:
    """How far the host's available memory fell below what it was, MiB."""

    def __enter__(self) -> MemoryWatch:
        script = "while :; do awk '/MemAvailable/ { print $2 }' /proc/meminfo; sleep 0.02; done"
        self._process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        out, _err = self._process.communicate()
        samples = [int(line) / 1024 for line in out.split()]
        self.taken_mib = samples[0] - min(samples)


def blackout(witness: Witness) -> Row:
    restart = "systemctl restart libvirtd; until virsh -q list >/dev/null 2>&1; do sleep 0.01; done"
    ours, theirs = [], []
    for _ in range(TURNS):
        witness.beats(SMALL, 500)
        ours.append(float(str(upgrade(SMALL)["blackout_ms"])))
        witness.beats(SMALL, 500)
        begun = time.monotonic()
        shell(restart)
        theirs.append((time.monotonic() - begun) * 1000)
    return Row("blackout, against a restart of libvirtd (ms)", ours, theirs, 1.5)


def transfer() -> list[Row]:
    """Mode transfer: against bare QEMU, by RAM size, and the blackout."""
    client.start(SMALL)
    witness = Witness()
    witness.watch(SMALL)
    rows = [against_bare(witness)]
    print(rows[-1], flush=True)
    ram, memory = against_ram_size(witness)
    rows += [ram, blackout(witness)]
    print(ram, memory, rows[-1], sep="\n", flush=True)
    witness.close()
    client.remove(SMALL.name)
    return rows


def main(parts: list[str]) -> int:
    """All parts, or those that are named: transfer, many, commands, reboot."""
    lab = Lab(default_store())
    wanted = parts or ["transfer", "many", "commands", "reboot"]
    within = True
    try:
        lab.reset()
        run("python3", "-", stdin=REBUILD)
        if "transfer" in wanted:
            within &= all(row.ratio <= row.bound for row in transfer())
        if "many" in wanted:
            for row in many.rows():
                print(row, flush=True)
                within &= row.ratio <= row.bound
        if "commands" in wanted:
            looked = timings()
            print(*looked, sep="\n", flush=True)
            within &= all(one.within for one in looked)
        if "reboot" in wanted:
            within &= all(row.ratio <= row.bound for row in reboot.rows())
        return 0 if within else 1
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        lab.down()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
