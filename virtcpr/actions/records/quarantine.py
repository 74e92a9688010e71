"""Hold libvirt's record of a guest aside, if libvirt would kill the guest or misread its state, until that is settled.

libvirt then shows the domain shut off (or doesn't know it, if it is transient), and leaves its QEMU alone.  Nobody must
start the domain meanwhile: libvirt reuses ids, and a second start could use the same directory.  libvirt's `qemu` hook
refuses the start.
"""

from __future__ import annotations

import logging
import shutil
from contextlib import suppress
from pathlib import Path

from virtcpr.domain import status
from virtcpr.errors import HostError, ParseError
from virtcpr.host.files import atomic
from virtcpr.host.libvirt import hooks
from virtcpr.host.system.lock import RUN_DIR
from virtcpr.model import HookState

log = logging.getLogger(__name__)

DIRECTORY = RUN_DIR / "held"  # known to hooks/libvirt-qemu, too
HOOK = "libvirt-qemu"


def hold(record: Path) -> str:
    """Move a domain's status file and pid file aside; the daemon must be down.  Returns what to tell the user.

    Raises HostError if the status file can't be moved: the daemon would read it.
    """
    try:
        atomic.make_private(DIRECTORY)
        for path in (record.with_suffix(".pid"), record):
            if path.exists():
                shutil.move(path, DIRECTORY / path.name)
        (DIRECTORY / record.name).touch(mode=0o600)  # the hook looks for it, even if libvirt had no record
    except OSError as error:
        raise HostError(f"libvirt's record {record} can't be held aside: {error.strerror}") from error
    return (
        f"libvirt's record of it is held aside in {DIRECTORY}: libvirt shows the domain shut off, or not at all, and "
        f"{_refusal()}"
    )


def _refusal() -> str:
    """Install the hook: the daemon looks for it when it starts.  Returns what to tell the user."""
    try:
        hooks.put(HOOK)
    except HostError as error:
        log.warning("%s", error.message)
        return "must not start it: the guest would run twice (libvirt's hook that refuses this isn't installed)"
    return "refuses to start it"


def refuses() -> bool:
    """Whether the hook is installed."""
    return any(hook.name == HOOK and hook.state is HookState.INSTALLED for hook in hooks.status())


def names() -> list[str]:
    """The names of the domains whose record is held aside."""
    return sorted(path.stem for path in DIRECTORY.glob("*.xml"))


def text(name: str) -> str:
    """The record that is held aside.  Raises HostError."""
    return atomic.read_text(DIRECTORY / f"{name}.xml")


def put_back(record: Path) -> None:
    """Give the record back to libvirt, unless it has a newer one.  Raises HostError."""
    try:
        for path in (record.with_suffix(".pid"), record):
            aside = DIRECTORY / path.name
            if aside.exists() and aside.stat().st_size and not path.exists():
                shutil.move(aside, path)
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise HostError(f"libvirt's record {record} can't be put back: {error.strerror}") from error


def forget(record: Path) -> None:
    """Remove the files: the domain is settled, and libvirt's own record is right."""
    with suppress(OSError):
        atomic.remove(*(str(DIRECTORY / path.name) for path in (record, record.with_suffix(".pid"))))


def name_of(uuid: str, directory: Path) -> str | None:
    """The name of a domain by its UUID, from the records in a directory; None if there is none."""
    for path in directory.glob("*.xml"):
        with suppress(HostError, ParseError, ValueError):
            if status.read(atomic.read_text(path)).uuid == uuid:
                return path.stem
    return None
