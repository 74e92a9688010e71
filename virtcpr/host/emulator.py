"""The installed emulator: is it there, does it run, which build is it, can it take over a guest."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from pathlib import Path

from virtcpr.errors import QmpError
from virtcpr.host.proc import build_of
from virtcpr.host.qmp import Monitor

SECONDS = 20.0


class NotAnEmulator(Exception):
    """Why a file can't be used as the emulator."""


async def inspect(path: str) -> tuple[str, dict[str, object]]:
    """(build, answers) of a QEMU binary: it is run once, with no machine, and asked.

    ``answers`` holds what query-version, query-target, query-qmp-schema and query-machines returned.
    Raises NotAnEmulator.
    """
    _check_file(path)
    build = build_of(Path(path))
    ours, theirs = socket.socketpair()
    arguments = ["-S", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "none"]
    monitor = ["-chardev", f"socket,id=m,fd={theirs.fileno()}", "-mon", "chardev=m,mode=control"]
    try:
        process = await asyncio.create_subprocess_exec(
            path,
            *arguments,
            *monitor,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            pass_fds=[theirs.fileno()],
        )
    except OSError as error:
        ours.close()
        raise NotAnEmulator(f"can't be run: {error.strerror}") from error
    finally:
        theirs.close()
    try:
        return build, await _ask(process, ours)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


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


async def _ask(process: asyncio.subprocess.Process, ours: socket.socket) -> dict[str, object]:
    try:
        async with await Monitor.connect(ours, "emulator", timeout=SECONDS) as monitor:
            commands = ("query-version", "query-target", "query-qmp-schema", "query-machines")
            return {command: await monitor.execute(command) for command in commands}
    except QmpError as error:
        if process.returncode is None:
            process.kill()
        assert process.stderr is not None
        words = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
        raise NotAnEmulator("isn't QEMU, or is broken: " + (words[-1] if words else error.message)) from error
