"""Placement and limits of a process and its threads, as the kernel shows them, for comparison with another process.

``identity`` is what libvirt would notice: cgroup, mount namespace, security label, user and groups.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from virtcpr.host.processes import policies
from virtcpr.host.processes.proc import Process
from virtcpr.host.system.cgroup import hierarchy

CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
STATUS = {"Umask": "umask", "NoNewPrivs": "no_new_privs flag", "Seccomp": "seccomp mode"}
FILES = {"oom_score_adj": "oom_score_adj", "coredump_filter": "filter of core dumps"}
OTHER_NAMESPACES = ("cgroup", "ipc", "net", "pid", "time", "user", "uts")
SCHEDULERS = {0: "other", 1: "fifo", 2: "rr", 3: "batch", 5: "idle", 6: "deadline"}

IDS = ("Uid:", "Gid:", "Groups:")


def of_process(process: Process) -> dict[str, str]:
    """Limits, capabilities, namespaces and memory policy of the process.  Unreadable properties are left out."""
    properties: dict[str, str] = {}
    with suppress(OSError):
        for line in (process.path / "limits").read_text().splitlines()[1:]:
            properties[f"limit '{line[:26].strip()}'"] = "/".join(line[26:].split()[:2])
    with suppress(OSError):
        pairs = (line.partition(":") for line in (process.path / "status").read_text(errors="replace").splitlines())
        status = {name: value.strip() for name, _, value in pairs}
        properties["capabilities"] = " ".join(f"{name}={status[name]}" for name in CAPABILITIES if name in status)
        properties |= {what: status[name] for name, what in STATUS.items() if name in status}
    for name, what in FILES.items():
        with suppress(OSError):
            properties[what] = (process.path / name).read_text().strip()
    for name in OTHER_NAMESPACES:
        with suppress(OSError):
            properties[f"{name} namespace"] = os.readlink(process.path / "ns" / name)
    if os.geteuid() != 0:  # all threads are in the cgroup of their daemon or of virtcpr: libvirt places none
        with suppress(OSError):
            properties["cgroup"] = " ".join(_cgroups(process.path))
    with suppress(OSError):
        properties["working directory"] = os.readlink(process.path / "cwd")
    with suppress(OSError):
        if (policy := policies.memory_policy(process.path)) is not None:
            properties["NUMA policy"] = policy
    return properties


def of_thread(process: Process, thread: int) -> dict[str, str]:
    """Properties of a single thread; empty if it is gone, or belongs to another process."""
    properties: dict[str, str] = {}
    task = process.path / "task" / str(thread)
    with suppress(OSError):
        if os.geteuid() == 0:
            properties["cgroup"] = " ".join(_cgroups(task))
        properties["CPU affinity"] = ",".join(str(cpu) for cpu in sorted(os.sched_getaffinity(thread)))
        properties["scheduling"] = _scheduling(thread)
        properties["nice value"] = str(os.getpriority(os.PRIO_PROCESS, thread))
        properties["I/O priority"] = str(policies.io_priority(thread))
        properties["core-scheduling cookie"] = str(policies.core_cookie(thread))
    return properties if task.is_dir() else {}


def _cgroups(task: Path) -> Iterator[str]:
    """Cgroups in the hierarchies that are mounted here; no process can be moved in the others."""
    for line in (task / "cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if hierarchy(number, controllers) is not None:
            yield f"{controllers}:{path}" if controllers else path


def _scheduling(thread: int) -> str:
    policy = os.sched_getscheduler(thread)
    reset = " (reset on fork)" if policy & os.SCHED_RESET_ON_FORK else ""
    name = SCHEDULERS.get(policy & ~os.SCHED_RESET_ON_FORK, str(policy))
    return f"{name} {os.sched_getparam(thread).sched_priority}{reset}"


def identity(process: Process) -> dict[str, str]:
    """Its cgroup (of the unified hierarchy), mount namespace, security label, user and groups; unreadable
    ones are left out.  ``plan.reconnect`` knows these names."""
    properties: dict[str, str] = {}
    if os.geteuid() == 0:  # a user's guests have no cgroup from libvirt, and can't change theirs
        with suppress(OSError):
            lines = (process.path / "cgroup").read_text().splitlines()
            properties["cgroup"] = " ".join(line.removeprefix("0::") for line in lines if line.startswith("0::"))
    with suppress(OSError):
        properties["mount namespace"] = os.readlink(process.path / "ns/mnt")
    with suppress(OSError):
        properties["security label"] = (process.path / "attr/current").read_text().strip("\0\n ")
    with suppress(OSError):
        ids = ("/".join(line.split()) for line in (process.path / "status").read_text(errors="replace").splitlines())
        properties["user and groups"] = " ".join(line for line in ids if line.startswith(IDS))
    return properties
