"""systemd-machined: if it knows a guest as a machine, the machine's leader follows the guest.

A machine whose leader is gone is stopped with everything in its scope, new QEMU too, when machined starts again
(systemd 257, src/machine/machined.c, manager_enumerate_machines and machine_check_gc; seen in the lab).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from virtcpr.errors import HostError
from virtcpr.host.processes.run import run

MACHINES = Path("/run/systemd/machines")
BUS, OBJECT = "org.freedesktop.machine1", "/org/freedesktop/machine1"
MANAGER, MACHINE = f"{BUS}.Manager", f"{BUS}.Machine"
PROPERTIES = ("Name", "Id", "Service", "Class", "RootDirectory", "NetworkInterfaces", "Leader")


def follow(old: int, new: int) -> bool:
    """Make process ``new`` the leader of its machine if ``old`` leads it, or one that has ended; whether that was so.

    ``new`` must be alive and in the machine's cgroup: machined takes the unit from there.  Raises HostError; then the
    machine may be unregistered, and is only missing in machinectl.
    """
    if not MACHINES.is_dir() or not any(MACHINES.iterdir()):
        return False
    try:
        machine = json.loads(_manager("GetMachineByPID", "u", str(new)))["data"][0]
    except HostError:
        return False  # none of the machines is this guest
    try:
        properties = _properties(machine)
    except (KeyError, ValueError, TypeError) as error:
        raise HostError(f"systemd-machined's answer can't be understood: {error}") from error
    leader = properties["Leader"]
    if leader != old and Path(f"/proc/{leader}").exists():
        return False
    _manager("UnregisterMachine", "s", properties["Name"])
    _manager(
        "RegisterMachineWithNetwork",
        "sayssusai",
        *(properties["Name"], *_array(properties["Id"]), properties["Service"], properties["Class"]),
        *(str(new), properties["RootDirectory"], *_array(properties["NetworkInterfaces"])),
    )
    return True


def _properties(machine: str) -> dict[str, Any]:
    output = run(["busctl", "--json=short", "get-property", BUS, machine, MACHINE, *PROPERTIES])
    return dict(zip(PROPERTIES, (json.loads(line)["data"] for line in output.splitlines()), strict=True))


def _manager(method: str, signature: str, *arguments: str) -> str:
    return run(["busctl", "--json=short", "call", BUS, OBJECT, MANAGER, method, signature, *arguments])


def _array(values: list[int]) -> list[str]:
    return [str(len(values)), *map(str, values)]
