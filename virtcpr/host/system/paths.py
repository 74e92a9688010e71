"""Paths: of the system's libvirt for root, of the user's own (``qemu:///session``) for everybody else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from virtcpr.errors import HostError

SESSION = "qemu:///session"
NOT_ROOT = f"run it with sudo; guests of your own: virtcpr -c {SESSION}"


@dataclass(frozen=True)
class Paths:
    """Of virtcpr: ``run``, until the host goes down, ``state``, persistent, and ``cache``.  Of libvirt:
    ``status``, status files and the lock of the QEMU driver; ``qemu_conf``; ``qemu_log``."""

    run: Path
    state: Path
    cache: Path
    status: Path
    qemu_conf: Path
    qemu_log: Path


SYSTEM = Paths(
    run=Path("/run/virtcpr"),
    state=Path("/var/lib/virtcpr"),
    cache=Path("/var/cache/virtcpr"),
    status=Path("/run/libvirt/qemu"),
    qemu_conf=Path("/etc/libvirt/qemu.conf"),
    qemu_log=Path("/var/log/libvirt/qemu"),
)


def of_user(environment: Mapping[str, str]) -> Paths:
    """Paths of an unprivileged daemon (libvirt, src/qemu/qemu_conf.c, virQEMUDriverConfigNew; src/util/virutil.c)."""
    home = Path(environment.get("HOME") or "/")

    def xdg(name: str, default: str) -> Path:
        return Path(environment.get(f"XDG_{name}_HOME") or home / default)

    cache = xdg("CACHE", ".cache")
    run = Path(environment.get("XDG_RUNTIME_DIR") or cache)
    return Paths(
        run=run / "virtcpr",
        state=xdg("STATE", ".local/state") / "virtcpr",
        cache=cache / "virtcpr",
        status=run / "libvirt/qemu/run",
        qemu_conf=xdg("CONFIG", ".config") / "libvirt/qemu.conf",
        qemu_log=cache / "libvirt/qemu/log",
    )


PATHS = SYSTEM if os.geteuid() == 0 else of_user(os.environ)


def refuse_others(uri: str | None) -> None:
    """Raises HostError for the system's libvirt if this user isn't root: its files, and virtcpr's, are root's.

    libvirt itself lets members of its group at the system's domains.  ``uri``: None is libvirt's default, which the
    environment can set.
    """
    uri = uri or os.environ.get("LIBVIRT_DEFAULT_URI", "")
    if os.geteuid() != 0 and uri.endswith("/system"):
        raise HostError("only root can look into the system's domains", hint=NOT_ROOT)


def may_act(uri: str | None) -> bool:
    """Whether this user may act on the guests of this libvirt: root on the system's, others on their own."""
    return os.geteuid() == 0 or uri == SESSION
