"""The installed emulator: whether it exists and runs, which build it is, and what it can do."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from virtcpr.errors import HostError, QmpError
from virtcpr.host.processes.build import build_of
from virtcpr.host.processes.proc import Process, User, leaves
from virtcpr.host.processes.run import run
from virtcpr.host.qemu.scratch import Scratch, as_user

SECONDS = 20.0
NOBODY = 65534
# The schema doesn't tell whether a QEMU hands over VFIO devices (10.1 and newer); its trace events do: those of
# hw/vfio/cpr-iommufd.c and its neighbours.
EVENTS, VFIO_EVENTS = "trace-event-get-state", {"name": "vfio_cpr_*"}
COMMANDS = ("query-version", "query-target", "query-qmp-schema", "query-machines")


class NotAnEmulator(Exception):
    """Why a file can't be used as the emulator."""


async def inspect(path: str) -> tuple[str, dict[str, object]]:
    """(build, answers) of a QEMU binary: run it once, as user nobody and without a machine, and query it.

    The file can be a script that runs QEMU: ``build`` is then QEMU's, as a guest's process shows it.  ``answers``
    holds what query-version, query-target, query-qmp-schema and query-machines returned, and trace-event-get-state
    for VFIO's part in CPR.
    Raises NotAnEmulator.
    """
    _check_file(path)
    options = ["-S", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "none"]
    try:
        scratch = await Scratch.start(path, options, user=_nobody())
    except HostError as error:
        raise NotAnEmulator(error.message) from error
    async with scratch:
        try:
            monitor = await scratch.monitor(SECONDS)
            answers = {command: await monitor.execute(command) for command in COMMANDS}
            answers[EVENTS] = await monitor.execute(EVENTS, VFIO_EVENTS)
            return _build(path, scratch), answers
        except QmpError as error:
            await scratch.end()
            words = scratch.words[-1] if scratch.words else error.message
            raise NotAnEmulator(f"isn't QEMU, or is broken: {words}") from error


def _build(path: str, scratch: Scratch) -> str:
    """The build of the program that answers: the only process of the scratch QEMU's session that has no child in it.

    Raises NotAnEmulator if the file can't be read.
    """
    try:
        programs = leaves(scratch.process.pid)
        return build_of(Process.of(programs[0]).path / "exe" if len(programs) == 1 else Path(path))
    except (OSError, HostError) as error:
        raise NotAnEmulator(f"can't be examined: {error}") from error


def firmware(path: str) -> str:
    """A text that changes with the firmware that a QEMU binary loads: firmware is part of a guest's machine.

    A package that replaces a file changes the time of its directory.
    """
    try:
        directories = firmware_directories(path)
    except HostError:
        return ""
    return " ".join(f"{name}@{os.stat(name).st_mtime_ns}" for name in directories if os.path.isdir(name))


def firmware_directories(path: str) -> list[str]:
    """Where a QEMU binary looks for firmware, whether there is something or not.  Raises HostError."""
    return run([*as_user(_nobody()), path, "-L", "help"]).split()


def _nobody() -> User | None:
    """The user for a binary that a domain's XML or a user names: it needs no rights, so it doesn't run as root."""
    return User(NOBODY, NOBODY) if os.geteuid() == 0 else None


def _check_file(path: str) -> None:
    if not os.path.isabs(path):
        raise NotAnEmulator("isn't an absolute path")
    try:
        kind = os.stat(path)
    except OSError as error:
        raise NotAnEmulator("doesn't exist" if isinstance(error, FileNotFoundError) else str(error.strerror)) from error
    if not stat.S_ISREG(kind.st_mode):
        raise NotAnEmulator("isn't a file")
    if not kind.st_mode & 0o111:
        raise NotAnEmulator("isn't executable")
