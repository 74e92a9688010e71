"""The processes that serve a guest's QEMU: new QEMU gets others, on the same state.

Each serves one QEMU.  What it knows of the guest goes along in old QEMU's stream, and new gives it to the second one:
a TPM's state (backends/tpm/tpm_emulator.c, tpm_emulator_pre_save() and tpm_emulator_post_load()), the files of a shared
directory that the guest knows (hw/virtio/vhost-user-fs.c, vuf_save_state() and vuf_load_state()).

The first one mustn't write a TPM's state any more then: one that ends by itself writes what it knows (swtpm 0.10).  So
it is stopped once old QEMU has handed over, killed before old QEMU ends, and continued if old QEMU goes on.

All of it is found by libvirt's paths, and can be done twice: recovery needs to know no more than the first processes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from virtcpr.domain.helpers.helper import Helper
from virtcpr.domain.sockets import beside
from virtcpr.errors import HostError, VirtcprError
from virtcpr.host.files import atomic
from virtcpr.host.processes import proc, sockets
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu import listeners
from virtcpr.host.qemu.launch import Launch, begin
from virtcpr.host.system.wait import wait_until

LISTEN_SECONDS = 10.0
END_SECONDS = 10.0
OUTPUT = (1, 2)


def start(helpers: Sequence[Helper]) -> None:
    """Start the second processes, as libvirt started the first, and wait until they listen at the first ones' paths.

    Raises HostError and OSError; the first ones are as they were then.
    """
    # Else giving back would put an earlier move's leftovers in the place of the first ones' files.
    atomic.remove(*(path for helper in helpers for path in helper.leftovers))
    try:
        for helper in helpers:
            _start(helper)
    except BaseException:
        give_back(helpers)
        raise


def _start(helper: Helper) -> None:
    try:
        for path in helper.set_aside:
            with suppress(FileNotFoundError):
                os.rename(path, beside(path))
        if helper.detaches:
            _wait_for_its_socket(helper, _detached(helper))
        elif helper.listener is None:
            _wait_for_its_socket(helper, Process.of(_launch(helper, {})))
        else:
            listener = listeners.bind(helper.socket, beside(helper.socket))
            try:
                _launch(helper, {helper.listener: listener})
            finally:
                os.close(listener)
    except OSError as error:
        raise HostError(f"a second {helper.what} can't be started: {error}") from error


def _launch(helper: Helper, fds: dict[int, int]) -> int:
    with _output(helper) as output:
        order = Launch(
            helper.argv,
            helper.pid,
            helper.started,
            {**output, **fds},
            f"a second {helper.what}",
            None if helper.detaches else beside(helper.pid_file),
            expendable=False,
            view=not (helper.sandbox or helper.detaches),
            rights=not helper.sandbox,
            program=helper.program,
        )
        return begin(order)


@contextmanager
def _output(helper: Helper) -> Iterator[dict[int, int]]:
    """Where the first one's output goes: virtlogd's pipe, or nowhere."""
    first = _first(helper)
    output: dict[int, int] = {}
    try:
        for number in OUTPUT:
            output[number] = first.clone_fd(number)
        yield output
    finally:
        for fd in output.values():
            os.close(fd)


def _detached(helper: Helper) -> Process:
    """Start one that goes to the background, where it listens by then."""
    pid = _launch(helper, {})
    with suppress(HostError):  # the process that was started is gone already
        starter = Process.of(pid)
        if not wait_until(lambda: not starter.alive(), LISTEN_SECONDS):
            starter.kill(END_SECONDS)
    second = _second(helper)
    if second is None:
        raise HostError(f"a second {helper.what} ended at once")
    return second


def _wait_for_its_socket(helper: Helper, second: Process) -> None:
    number = wait_until(lambda: _listener(helper, second), LISTEN_SECONDS)
    if number is None:
        raise HostError(f"a second {helper.what} doesn't listen at {helper.socket}; its log may say why")
    with closing(os.fdopen(second.clone_fd(number))) as listener:
        listeners.look_like(listener.fileno(), helper.socket, beside(helper.socket))


def _listener(helper: Helper, second: Process) -> int | None:
    """Its descriptor of the socket at which it listens; None if it doesn't yet.  Raises HostError if it has ended.

    Not by connecting: it takes one client.
    """
    if not second.alive():
        raise HostError(f"a second {helper.what} ended at once; its log may say why")
    with suppress(OSError):
        return sockets.listeners(second, second.fd_targets())[0].get(helper.socket)
    return None


def there(helpers: Sequence[Helper]) -> None:
    """All second processes live whose end QEMU doesn't notice: it would try to reach one again and again.

    Raises HostError.
    """
    for helper in helpers:
        if helper.detaches and _second(helper) is None:
            raise HostError(f"the second {helper.what} has ended")


def stop(helpers: Sequence[Helper]) -> None:
    """The first processes write nothing any more, whatever becomes of old QEMU.  Raises HostError."""
    for helper in helpers:
        if helper.writes:
            _first(helper).signal(signal.SIGSTOP)


def give_back(helpers: Sequence[Helper]) -> list[str]:
    """End the second processes, and have the first ones go on.  Before new QEMU is ended: at that, a second one would
    write its state.  Returns what failed: nothing may keep old QEMU from resuming."""
    return [problem for helper in helpers for problem in _give_back(helper)]


def _give_back(helper: Helper) -> Iterator[str]:
    try:
        _kill(_second(helper))
        for path in helper.set_aside:
            with suppress(FileNotFoundError):
                os.rename(beside(path), path)
        atomic.remove(beside(helper.pid_file))
    except (VirtcprError, OSError) as error:
        yield f"{helper.serves} may not work: {error}"
    if helper.writes:
        try:
            _first(helper).signal(signal.SIGCONT)
        except HostError as error:
            yield f"{helper.serves} doesn't work: {error}"


def hand_over(helpers: Sequence[Helper]) -> None:
    """End the first processes, before old QEMU is ended; their files' places are the second ones'.

    Raises HostError if one can't be killed.
    """
    for helper in helpers:
        _kill(_first(helper))
        if not helper.detaches:  # which has written it at its place
            with suppress(FileNotFoundError):  # it was renamed already
                os.rename(beside(helper.pid_file), helper.pid_file)
        with suppress(OSError):  # in nobody's way: the next move replaces them
            atomic.remove(*map(beside, helper.set_aside))


def end(helpers: Sequence[Helper]) -> None:
    """No guest has them any more: end all, none of which shall write.  Raises HostError."""
    for helper in helpers:
        _kill(_first(helper))
        _kill(_second(helper))
        atomic.remove(*helper.leftovers)


def _first(helper: Helper) -> Process:
    return Process(helper.pid, helper.started)


def _second(helper: Helper) -> Process | None:
    """Who holds the pid file, or is named there, and has the first one's command line: the file may be another user's
    to replace."""
    for path in (beside(helper.pid_file), helper.pid_file):
        with suppress(HostError, OSError, ValueError):
            pid = proc.pid_in(path) if helper.detaches else proc.lock_owner(Path(path))
            if pid not in (None, helper.pid) and (found := Process.of(pid)).argv() == helper.argv:
                return found
    return None


def _kill(process: Process | None) -> None:
    """With its children, in which it may do its work: they hold what it holds."""
    if process is None:
        return
    for one in (*process.children(), process):
        if not one.kill(END_SECONDS):
            raise HostError(f"process {one.pid}, which serves a guest, can't be killed")
