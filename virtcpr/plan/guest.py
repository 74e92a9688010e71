"""A domain as far as both a swap and its recovery must know it."""

from __future__ import annotations

from dataclasses import dataclass


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

    @property
    def sockets(self) -> tuple[str, str]:
        """Those of the CPR and of the main channel."""
        return f"{self.lib_dir}/cpr.sock", f"{self.lib_dir}/main.sock"
