"""The process that emulates a guest's TPM: new QEMU gets a second one, on the same state.

A swtpm serves one QEMU.  The guest's TPM goes along in old QEMU's stream, and new gives it to the second process
(backends/tpm/tpm_emulator.c, tpm_emulator_pre_save() and tpm_emulator_post_load()), which writes the state from then
on.  The first one mustn't any more: one that ends by itself writes what it knows (swtpm 0.10).  So it is stopped once
old QEMU has handed over, killed before old QEMU ends, and continued if old QEMU goes on.

All of it is found by libvirt's paths, and can be done twice: recovery needs to know no more than the first process.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from virtcpr.domain.sockets import beside
from virtcpr.domain.swtpm import Swtpm
from virtcpr.errors import HostError, VirtcprError
from virtcpr.host.files import atomic
from virtcpr.host.processes import proc
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu import listeners
from virtcpr.host.qemu.launch import Launch, launch
from virtcpr.host.system.wait import wait_until

LISTEN_SECONDS = 10.0
END_SECONDS = 10.0


def start(swtpm: Swtpm | None) -> None:
    """Start the second process, as libvirt started the first, and wait until it listens at the first one's path.

    Raises HostError; the first one is as it was then.
    """
    if swtpm is None:
        return
    try:
        for path in swtpm.set_aside:
            with suppress(FileNotFoundError):
                os.rename(path, beside(path))
        second = _launch(swtpm)
        number = wait_until(lambda: _listener(second, swtpm.socket), LISTEN_SECONDS)
        if number is None:
            raise HostError(f"a second swtpm doesn't listen at {swtpm.socket}; its log may say why")
        listener = second.clone_fd(number)
        try:
            listeners.look_like(listener, swtpm.socket, beside(swtpm.socket))
        finally:
            os.close(listener)
    except BaseException as error:
        give_back(swtpm)
        if isinstance(error, OSError):
            raise HostError(f"a second swtpm can't be started: {error}") from error
        raise


def _launch(swtpm: Swtpm) -> Process:
    atomic.remove(beside(swtpm.pid_file))
    with open(os.devnull, "r+b") as null:
        fds = {1: null.fileno(), 2: null.fileno()}
        order = Launch(
            swtpm.argv, swtpm.pid, swtpm.started, fds, "a second swtpm", beside(swtpm.pid_file), expendable=False
        )
        return launch(order)


def _listener(second: Process, path: str) -> int | None:
    """Its descriptor of the socket at which it listens; None if it doesn't yet.  Raises HostError if it has ended.

    Not by connecting: it takes one client.
    """
    if not second.alive():
        raise HostError("a second swtpm ended at once; its log may say why")
    with suppress(OSError):
        return proc.listeners(second, second.fd_targets())[0].get(path)
    return None


def stop(swtpm: Swtpm | None) -> None:
    """The first process writes nothing any more, whatever becomes of old QEMU.  Raises HostError."""
    if swtpm is not None:
        _first(swtpm).signal(signal.SIGSTOP)


def give_back(swtpm: Swtpm | None) -> list[str]:
    """End the second process, and have the first one go on.  Before new QEMU is ended: at that, the second would write
    its state.  Returns what failed: nothing may keep old QEMU from resuming."""
    if swtpm is None:
        return []
    problems = []
    try:
        _kill(_second(swtpm))
        for path in swtpm.set_aside:
            with suppress(FileNotFoundError):
                os.rename(beside(path), path)
        atomic.remove(beside(swtpm.pid_file))
    except (VirtcprError, OSError) as error:
        problems.append(f"its TPM may not work: {error}")
    try:
        _first(swtpm).signal(signal.SIGCONT)
    except HostError as error:
        problems.append(f"its TPM doesn't work: {error}")
    return problems


def hand_over(swtpm: Swtpm | None) -> None:
    """End the first process, before old QEMU is ended; its files' places are the second one's.

    Raises HostError if it can't be killed.
    """
    if swtpm is None:
        return
    _kill(_first(swtpm))
    with suppress(FileNotFoundError):  # it was renamed already
        os.rename(beside(swtpm.pid_file), swtpm.pid_file)
    with suppress(OSError):  # in nobody's way: the next move replaces them
        atomic.remove(*map(beside, swtpm.set_aside))


def end(swtpm: Swtpm | None) -> None:
    """No guest has it any more: end both, neither of which shall write.  Raises HostError."""
    if swtpm is not None:
        _kill(_first(swtpm))
        _kill(_second(swtpm))
        atomic.remove(*swtpm.leftovers)


def _first(swtpm: Swtpm) -> Process:
    return Process(swtpm.pid, swtpm.started)


def _second(swtpm: Swtpm) -> Process | None:
    """Both have the same command line, with paths that no other has."""
    return proc.with_argv(swtpm.argv, other_than=swtpm.pid)


def _kill(process: Process | None) -> None:
    if process is not None and not process.kill(END_SECONDS):
        raise HostError(f"swtpm (process {process.pid}) can't be killed")
