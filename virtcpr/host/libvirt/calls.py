"""A call of libvirt's library: none takes longer than its deadline."""

from __future__ import annotations

import logging
import queue
import threading
from typing import Any

from virtcpr.errors import HostError

log = logging.getLogger(__name__)

# libvirt itself waits 30 s for its own lock on a domain (QEMU_JOB_WAIT_TIME, src/hypervisor/domain_job.c).
CALL_SECONDS = 35.0


def bindings() -> Any:
    """The modules libvirt and libvirt_qemu.  Raises HostError if they aren't installed."""
    try:
        import libvirt
        import libvirt_qemu
    except ImportError as error:
        raise HostError(
            f"the Python bindings of libvirt are missing ({error.name})",
            hint="install the distribution's package: python3-libvirt",
        ) from error
    libvirt.registerErrorHandler(lambda _context, error: log.debug("libvirt: %s", error[2]), None)
    return libvirt, libvirt_qemu


def call(function: Any, *arguments: object, seconds: float | None = None) -> Any:
    """As ``within``, but libvirt's own error is raised as HostError with its words."""
    libvirt, _ = bindings()
    try:
        return within(function, *arguments, seconds=seconds)
    except libvirt.libvirtError as error:
        raise HostError(f"libvirt: {error.get_error_message()}") from error


def within(function: Any, *arguments: object, seconds: float | None = None) -> Any:
    """Call ``function``.  Raises what it raises; HostError after ``seconds`` (None: ``CALL_SECONDS``).

    libvirt waits for ever for a QEMU that hangs, and so does its library for a daemon that hangs.  So a thread of its
    own makes the call, and is left behind at the deadline.
    """
    answers: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put((function(*arguments), None))
        except Exception as error:
            answers.put((None, error))

    threading.Thread(target=ask, daemon=True).start()
    seconds = seconds or CALL_SECONDS
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise HostError(
            f"libvirt's daemon didn't answer within {seconds:g} s: it hangs, or a QEMU that it waits for",
            hint="virsh list shows whether it is the daemon; virsh domstats --state names the domain that hangs",
        ) from None
    if error is not None:
        raise error
    return answer
