"""The facts about a domain that both a swap and its recovery need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from virtcpr.domain.helpers.helper import Helper
from virtcpr.domain.sockets import beside
from virtcpr.domain.status import StatusFile


@dataclass(frozen=True)
class Guest:
    """What is needed to give a domain to either process; the journal stores it.

    ``runs`` is False if the user suspended it; ``return_path`` and ``taints`` are from before the swap.  ``listeners``:
    the paths of unix sockets that new QEMU listens beside.  ``helpers``: the processes that serve old QEMU.
    ``limits``: in mode live the parameters of old QEMU's migrations that the move changes, as they were; else empty.
    """

    name: str
    monitor: str
    lib_dir: str
    status_path: str
    status_xml: str
    emulator: str
    runs: bool
    return_path: bool
    taints: tuple[str, ...]
    listeners: tuple[str, ...] = ()
    helpers: tuple[Helper, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, record: StatusFile, path: str) -> Guest:
        """The facts in libvirt's own record."""
        return cls(
            name=record.name,
            monitor=record.monitor,
            lib_dir=record.lib_dir,
            status_path=path,
            status_xml="",
            emulator="",
            runs=record.state != "paused",
            return_path=False,
            taints=tuple(sorted(record.taints)),
        )

    @property
    def sockets(self) -> tuple[str, str]:
        """The sockets of the CPR channel and the main channel."""
        return f"{self.lib_dir}/cpr.sock", f"{self.lib_dir}/main.sock"

    @property
    def way_back(self) -> str:
        """A link by which the build that the guest ran in is executed again: the process is named after it."""
        return f"{self.lib_dir}/qemu-system"

    @property
    def copied(self) -> bool:
        """Whether new QEMU gets a copy of the guest's RAM (mode live)."""
        return bool(self.limits)

    @property
    def new_monitor(self) -> str:
        """Where new QEMU's monitor is until old QEMU has ended."""
        return beside(self.monitor) if self.monitor in self.listeners else self.monitor
