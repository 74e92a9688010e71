"""A guest that no QEMU has: its RAM, by descriptor, its state, and what else a QEMU needs that is to run it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from virtcpr.actions.transfer.place_threads import Places
from virtcpr.host.qemu.cpr_channels import Part
from virtcpr.plan.transfer.replay import Command


@dataclass(frozen=True)
class Kept:
    """What a QEMU needs that is to run it.

    ``go``: the pipe on which the build that the guest ran in waits; ``places``: of the guest's threads; ``displays``:
    listening sockets of the VNC display; ``commands``: by QMP, before the state arrives.
    """

    ram: tuple[Part, ...]
    state: int
    go: int
    places: Places
    displays: tuple[int, ...] = ()
    commands: tuple[Command, ...] = ()

    def packed(self) -> tuple[Mapping[str, Any], tuple[int, ...], tuple[int, ...]]:
        """A note, all descriptors, and those of them that are made for it: close them when it is put."""
        data = os.memfd_create("virtcpr-ram")
        for part in self.ram:
            os.write(data, part.data)
        note = {
            "ram": [(len(part.data), len(part.fds)) for part in self.ram],
            "places": asdict(self.places),
            "displays": len(self.displays),
            "commands": [asdict(command) for command in self.commands],
        }
        ram = (fd for part in self.ram for fd in part.fds)
        return note, (data, self.state, self.go, *self.displays, *ram), (data,)

    @classmethod
    def unpacked(cls, note: Mapping[str, Any], fds: list[int]) -> Kept:
        data, state, go, *rest = fds
        displays, rest = rest[: note["displays"]], rest[note["displays"] :]
        parts, at = [], 0
        for length, number in note["ram"]:
            parts.append(Part(os.pread(data, length, at), tuple(rest[:number])))
            at, rest = at + length, rest[number:]
        os.close(data)
        commands = tuple(Command(**one) for one in note["commands"])
        return cls(tuple(parts), state, go, Places(**note["places"]), tuple(displays), commands)

    def close(self) -> None:
        """Close all of it here."""
        for fd in (self.state, self.go, *self.displays):
            os.close(fd)
        for part in self.ram:
            part.close()
