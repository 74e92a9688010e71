"""The lab as tests, the demo and the bench use it: run commands in it, define guests, watch them from outside.

The emulated host (tests/host) is used in the same way, ``on`` it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import paths
from tests.lab.support.guests import WITNESS, Shape, domain_xml, image_commands, watch_request

MODE = os.environ.get("VIRTCPR_MODE")  # in which guests are moved, if a test says nothing else; None: as ever
log = logging.getLogger(__name__)

LAB = paths.LAB / "lab"
RELEASES = ("OLD", "NEW", "NEXT")
QEMU_PACKAGES = [
    line for line in (LAB.parent / "image/qemu-packages").read_text().splitlines() if line and line[0] != "#"
]


@dataclass(frozen=True)
class Machine:
    """Where commands run: the program that is the way in, how much longer than in the lab everything takes."""

    entrance: Path = LAB
    slowness: float = 1
    observer: tuple[str, ...] = ("python3", f"{WITNESS}/watch.py")


_machine = Machine()


@contextlib.contextmanager
def on(machine: Machine) -> Iterator[None]:
    """Commands go there instead of to the lab."""
    global _machine
    before, _machine = _machine, machine
    try:
        yield
    finally:
        _machine = before


def slowness() -> float:
    """How much longer than in the lab everything takes where commands go."""
    return _machine.slowness


class LabCommandError(AssertionError):
    """A command in the lab that should have worked; the text holds what it said."""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


def run(*argv: str, stdin: str = "", check: bool = True, timeout: float = 120) -> Done:
    """Run a command in the lab.  With ``check``, raises LabCommandError where it fails."""
    done = subprocess.run(
        [str(_machine.entrance), "exec", *argv],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout * _machine.slowness,
        check=False,
    )
    if check and done.returncode != 0:
        raise LabCommandError(f"{shlex.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return Done(done.returncode, done.stdout, done.stderr)


def beside(*argv: str) -> subprocess.Popen[str]:
    """A command that goes on while others are run; it is talked to by its standard input and output."""
    return subprocess.Popen(
        [str(_machine.entrance), "exec", *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def shell(script: str, **options: Any) -> str:
    return run("sh", "-ec", script, **options).out


def versions() -> dict[str, str]:
    """The package versions of QEMU in the lab: OLD, NEW, NEXT, and NEXT_SUITE."""
    return dict(line.split("=", 1) for line in run("cat", "/etc/virtcpr-lab/versions").out.splitlines())


def upstream(package_version: str) -> str:
    """QEMU's own version in a package's: ``1:10.0.2+ds-2`` → ``10.0.2``."""
    return package_version.partition(":")[2].partition("+")[0]


def install_qemu(release: str) -> None:
    """Have a release of QEMU installed by apt, offline, from the lab's package cache."""
    known = versions()
    wanted = known[release]
    found = run("dpkg-query", "-Wf", "${Version}", "qemu-system-x86").out
    if found == wanted:
        return
    target = ["-t", known["NEXT_SUITE"]] if release == "NEXT" else []
    pinned = [f"{package}={wanted}" for package in QEMU_PACKAGES]
    options = ["-qy", "--no-download", "--allow-downgrades", "-o", "Dpkg::Options::=--force-unsafe-io"]
    run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", *options, *target, *pinned)


def start(shape: Shape) -> None:
    """Make a guest's images, define it and start it."""
    commands = [shlex.join(command) for command in image_commands(shape)]
    shell(
        "\n".join([*commands, f"virsh -q define /dev/stdin; virsh -q start {shape.name}"]),
        stdin=domain_xml(shape),
    )


def remove(name: str) -> None:
    """End a guest and forget it; its images go with the next reset."""
    run("virsh", "-q", "destroy", name, check=False)
    run("virsh", "-q", "undefine", "--nvram", name, check=False)


def virsh(*arguments: str, **options: Any) -> str:
    return run("virsh", "-q", *arguments, **options).out


def monitor(name: str, command: str, **arguments: object) -> Any:
    """One QMP command through libvirt."""
    request = {"execute": command, **({"arguments": arguments} if arguments else {})}
    return json.loads(virsh("qemu-monitor-command", name, json.dumps(request)))["return"]


def qemu_version(name: str) -> str:
    version = monitor(name, "query-version")["qemu"]
    return f"{version['major']}.{version['minor']}.{version['micro']}"


def pid(name: str) -> int:
    return int(run("cat", f"/run/libvirt/qemu/{name}.pid").out)


class Witness:
    """The observer in the lab (witness/watch.py): every guest's heartbeat, echo, RAM and disk, from outside."""

    def __init__(self) -> None:
        self._process = beside(*_machine.observer)

    def ask(self, **request: object) -> Any:
        """One request; raises LabCommandError where the observer answers with an error or has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise LabCommandError("the witness's observer has ended")
        parsed = json.loads(answer)
        if "error" in parsed:
            raise LabCommandError(f"the observer: {parsed['error']}")
        return parsed

    def watch(self, *shapes: Shape, timeout: float = 120) -> None:
        """Watch these guests, and wait until they beat and their RAM is filled."""
        for shape in shapes:
            self.ask(**watch_request(shape))
        for shape in shapes:
            self.beats(shape, 20, timeout)

    def beats(self, shape: Shape, count: int = 20, timeout: float = 30) -> None:
        """Wait for this many more heartbeats of a guest."""
        self.ask(op="wait", id=shape.number, beats=count, timeout=timeout * _machine.slowness)

    def mark(self) -> None:
        self.ask(op="mark")

    def report(self, shape: Shape) -> Mapping[str, Any]:
        report: Mapping[str, Any] = self.ask(op="report")["guests"][str(shape.number)]
        return report

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=10 * _machine.slowness)


def virtcpr(*arguments: str, check: bool = False, timeout: float = 180) -> Done:
    return run("virtcpr", *arguments, check=check, timeout=timeout)


def upgrade(*arguments: str, timeout: float = 180) -> Any:
    """``virtcpr upgrade … --yes -o json``: its JSON; in mode live if the tests are run in that (``make chaos``)."""
    by = ("--mode", MODE, "--force") if MODE and "--mode" not in arguments else ()
    done = virtcpr("upgrade", "--yes", "-o", "json", *by, *arguments, timeout=timeout)
    log.info("%s%s", done.out, done.err)  # a test that fails shows it whole
    if not done.out:
        raise LabCommandError(f"virtcpr upgrade: exit {done.code}\n{done.err}")
    return json.loads(done.out)
