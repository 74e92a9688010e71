"""A domain as far as both a swap and its recovery must know it."""

from __future__ import annotations

from dataclasses import dataclass

from virtcpr.domain.status import StatusFile


@dataclass(frozen=True)
class Guest:
    """What must be known of a domain to give it to either process; the journal keeps it.

    ``runs`` is False where the user suspended it; ``return_path`` and ``taints`` are as they were before the swap.
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

    @classmethod
    def of(cls, record: StatusFile, path: str) -> Guest:
        """As far as libvirt's own record tells."""
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
        """Those of the CPR and of the main channel."""
        return f"{self.lib_dir}/cpr.sock", f"{self.lib_dir}/main.sock"
