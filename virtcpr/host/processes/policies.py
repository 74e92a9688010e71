"""Properties of a thread that Python has no calls for: I/O priority, NUMA policy, core-scheduling cookie."""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path

# ioprio_set, ioprio_get, set_mempolicy on architectures with their own numbers.
OWN_NUMBERS = {"x86_64": (251, 252, 238), "ppc64le": (273, 274, 261), "s390x": (282, 283, 270)}
NUMBERS = (30, 31, 237)  # include/uapi/asm-generic/unistd.h
IOPRIO_WHO_PROCESS = 1
PR_SCHED_CORE, CORE_GET, CORE_SHARE_TO, CORE_SHARE_FROM, SCOPE_THREAD = 62, 0, 2, 3, 0  # linux/prctl.h
# As /proc/PID/numa_maps spells them (mm/mempolicy.c, mpol_to_str): the policy, and its flags behind a "=".
MODES = {"default": 0, "prefer": 1, "bind": 2, "interleave": 3, "local": 4, "prefer (many)": 5,
         "weighted interleave": 6}  # fmt: skip
FLAGS = {"static": 1 << 15, "relative": 1 << 14, "balancing": 1 << 13}
BITE = 128  # bytes; the kernel generates the file while it is read (fs/seq_file.c)
BITS = ctypes.sizeof(ctypes.c_ulong) * 8


def _call(which: int, *arguments: object) -> int:
    """Raises OSError."""
    number = OWN_NUMBERS.get(platform.machine(), NUMBERS)[which]
    result: int = ctypes.CDLL(None, use_errno=True).syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def io_priority(thread: int) -> int:
    """Class and level in one, as ioprio_get(2) has it.  Raises OSError."""
    return _call(1, IOPRIO_WHO_PROCESS, thread)


def set_io_priority(thread: int, value: int) -> None:
    """Raises OSError."""
    _call(0, IOPRIO_WHO_PROCESS, thread, value)


def core_cookie(thread: int) -> int:
    """What threads that may share a core have in common, 0 for none (Linux, admin-guide/hw-vuln/core-scheduling.rst).

    libvirt's ``sched_core`` (qemu.conf) gives each guest its own.  0, too, where the kernel or the processor has no
    core scheduling.
    """
    cookie = ctypes.c_ulong(0)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return 0 if prctl(PR_SCHED_CORE, CORE_GET, thread, SCOPE_THREAD, ctypes.byref(cookie)) < 0 else cookie.value


def share_core_cookie(source: int, target: int) -> None:
    """Give a thread the cookie of another.  Raises OSError."""
    errors: list[int] = []
    # The cookie passes through the thread that calls: one of its own, which ends with it.
    carrier = threading.Thread(target=_carry_cookie, args=(source, target, errors))
    carrier.start()
    carrier.join()
    if errors:
        raise OSError(errors[0], os.strerror(errors[0]))


def _carry_cookie(source: int, target: int, errors: list[int]) -> None:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for action, thread in ((CORE_SHARE_FROM, source), (CORE_SHARE_TO, target)):
        if prctl(PR_SCHED_CORE, action, thread, SCOPE_THREAD, 0) < 0:
            errors.append(ctypes.get_errno())
            return


def memory_policy(task: Path) -> str | None:
    """The NUMA policy of a thread (``/proc/PID/task/TID``), as numa_maps spells it; None if the kernel has none.

    No call returns another thread's policy, but its mappings without a policy of their own show it, such as the
    program's text (fs/proc/task_mmu.c, show_numa_map).
    """
    try:
        binary = os.readlink(task / "exe").removesuffix(" (deleted)")
        with (task / "numa_maps").open("rb", buffering=0) as file:
            for line in _lines(file):
                _, _, rest = line.partition(" ")
                policy, separator, mapped = rest.partition(" file=")
                if separator and mapped.split()[0].removesuffix("\\040(deleted)") == binary:
                    return policy
    except FileNotFoundError:
        pass
    return None


def _lines(file: FileIO) -> Iterator[str]:
    """Read in small pieces: the kernel counts the pages of each mapping that is read, which takes seconds for a guest's
    RAM.  The program's own mappings come first."""
    rest = b""
    while bite := file.read(BITE):
        *whole, rest = (rest + bite).split(b"\n")
        yield from (os.fsdecode(line) for line in whole)


def set_memory_policy(text: str) -> None:
    """Give this thread and its children the policy, in numa_maps' notation.  Raises OSError and ValueError."""
    policy, _, nodes = text.partition(":")
    name, _, flags = policy.partition("=")
    mode = MODES[name] | sum(FLAGS[flag] for flag in flags.split("|") if flag)
    numbers = sorted(_ranges(nodes))
    words = (ctypes.c_ulong * (max(numbers, default=0) // BITS + 1))()
    for number in numbers:
        words[number // BITS] |= 1 << number % BITS
    # The kernel uses one bit less than this number (get_nodes).
    _call(2, ctypes.c_int(mode), words if numbers else None, ctypes.c_ulong(len(words) * BITS + 1 if numbers else 0))


def _ranges(text: str) -> Iterable[int]:
    """``0-2,5`` → 0, 1, 2, 5."""
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
