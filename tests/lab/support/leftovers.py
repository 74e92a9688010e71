"""What a swap must not leave behind."""

from __future__ import annotations

from tests.lab.support.builds import EMULATOR
from tests.lab.support.client import run, shell

KEPT = f"{EMULATOR}-old"  # the binary of OLD beside the installed NEW: apt needn't run so often


def leftovers() -> str:
    """Whatever a swap leaves that it should not: sockets, journal entries, temporary files."""
    return shell(
        "ls /run/virtcpr/journal 2>/dev/null || :; find /var/lib/libvirt /run/libvirt/qemu "
        "-name 'cpr.sock' -o -name 'main.sock' -o -name '*.virtcpr'"
    )


def qemu_processes() -> int:
    return len(run("pgrep", "qemu-system", check=False).out.split())
