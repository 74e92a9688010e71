"""What a real host does to a guest's QEMU: AppArmor, cgroups, processors, memory, network; without virtcpr's help."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.lab.support import client
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.machined import machine_of, scope_of

# Run on the host: what is set for each thread of a process, by the thread's name.
THREADS = r"""
import json, os, sys
pid = int(sys.argv[1])
seen = {}
for thread in os.listdir(f"/proc/{pid}/task"):
    try:
        name = open(f"/proc/{pid}/task/{thread}/comm").read().strip()
        if not name.startswith(("CPU ", "qemu-system", "IO ", "iothread")):
            continue  # workers, which come and go
        cgroup = open(f"/proc/{pid}/task/{thread}/cgroup").read().partition("::")[2].strip()
        number = int(thread)
        seen[name] = [
            cgroup, sorted(os.sched_getaffinity(number)), os.sched_getscheduler(number),
            os.sched_getparam(number).sched_priority, os.getpriority(os.PRIO_PROCESS, number),
        ]
    except OSError:
        pass
print(json.dumps(seen))
"""
# Effective processors and nodes: libvirt writes "all" where nothing stood when it starts anew (qemuRestoreCgroupState).
CGROUP = r"""
cd /sys/fs/cgroup
find ./"$1" -type f \( -name 'cpu.weight' -o -name 'cpu.max' -o -name 'cpuset.*.effective' \
    -o -name 'memory.max' -o -name 'memory.high' -o -name 'memory.swap.max' -o -name 'io.max' -o -name 'io.weight' \
    -o -name 'io.bfq.weight' \) | sort | while read -r file; do echo "$file: $(tr '\n' ' ' < "$file")"; done
"""


TAP = """
tc qdisc show dev "$1"; tc filter show dev "$1"; tc filter show dev "$1" parent ffff:; bridge -d link show dev "$1"
ip -d -o link show dev "$1" | sed -E 's/^[0-9]*: //; s/[a-z_]+_timer +[0-9.]+//g'
"""


def denials() -> set[str]:
    """What AppArmor has denied since the host started, in the kernel's words, without time and pid.

    Some is denied to every QEMU, also when libvirt starts it: the directories of NVDIMMs below /sys.
    """
    lines = run("journalctl", "-k", "-o", "cat").out.splitlines()
    return {re.sub(r"audit\([^)]*\)|pid=\d+", "", line) for line in lines if 'apparmor="DENIED"' in line}


def profile(process: int) -> str:
    """Its security label: AppArmor's profile and mode, or SELinux's context, which ends with a NUL."""
    return run("cat", f"/proc/{process}/attr/current").out.strip("\0\n ")


def profiles() -> set[str]:
    """The AppArmor profiles of guests that the kernel has."""
    lines = run("cat", "/sys/kernel/security/apparmor/profiles").out.splitlines()
    return {line for line in lines if line.startswith("libvirt-")}


def threads(process: int) -> dict[str, Any]:
    """Of each thread that libvirt knows, by name: cgroup, processors, scheduler, its priority, nice."""
    seen: dict[str, Any] = json.loads(run("python3", "-c", THREADS, str(process)).out)
    return seen


def vhosts(process: int) -> int:
    """Descriptors of vhost-net that a QEMU has open."""
    return shell(f"ls -l /proc/{process}/fd").count("/dev/vhost-net")


def scope(name: str) -> str:
    """The cgroup of a guest's machine, below /sys/fs/cgroup."""
    return f"machine.slice/{scope_of(machine_of(name))}"


def limits(name: str) -> str:
    """Every limit in the cgroups of a guest's machine."""
    return run("sh", "-ec", CGROUP, "sh", scope(name)).out


def leader(name: str) -> int:
    return int(run("machinectl", "show", machine_of(name), "-p", "Leader", "--value").out)


def ram_policy(process: int) -> list[str]:
    """The NUMA policy of each mapping of guest RAM, from numa_maps."""
    lines = run("cat", f"/proc/{process}/numa_maps").out.splitlines()
    return sorted({line.split()[1] for line in lines if "memory-backend-memfd" in line})


def memory(process: int) -> dict[str, int]:
    """Locked memory and hugepages of a process, in KiB."""
    fields = dict(line.split(":", 1) for line in run("cat", f"/proc/{process}/status").out.splitlines())
    return {name: int(fields[name].split()[0]) for name in ("VmLck", "HugetlbPages")}


def network(name: str) -> dict[str, str]:
    """What is set for each interface of a guest on the host: queueing, isolation, filters."""
    taps = [line.split()[0] for line in virsh("domiflist", name).splitlines() if line.strip()]
    seen = {tap: run("sh", "-c", TAP, "sh", tap, check=False).out for tap in taps}
    seen["filters"] = re.sub(r"counter packets \d+ bytes \d+", "", run("nft", "list", "ruleset", check=False).out)
    return seen


def picture(name: str) -> list[str]:
    """All of the above that must be the same after a move, a line each."""
    process = client.pid(name)
    lines = [f"profile: {profile(process)}", f"vhosts: {vhosts(process)}"]
    lines += [
        f"thread {thread}: {' '.join(map(str, settings))}" for thread, settings in sorted(threads(process).items())
    ]
    lines += [f"RAM: {policy}" for policy in ram_policy(process)]
    lines += [f"{field}: {kib} KiB" for field, kib in memory(process).items()]
    # In any order: libvirt may list its chains in another one when it has started anew.
    lines += sorted(f"{what}: {line}" for what, text in network(name).items() for line in text.splitlines())
    return [*lines, *limits(name).splitlines()]
