"""A guest that libvirt would kill, or take wrongly: its record is kept from the daemon until that is settled.

libvirt then thinks that the domain is shut off (a transient one it doesn't know at all), and leaves its QEMU alone.
Nobody must start it meanwhile: libvirt gives ids anew, and a second start could get the same directory.  libvirt's
`qemu` hook refuses it.
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
    """Take a domain's status file and pid file out of libvirt's sight; the daemon must be down.  Says what holds now.

    Raises HostError where the status file can't be moved: the daemon would read it.
    """
    try:
        atomic.make_private(DIRECTORY)
        for path in (record.with_suffix(".pid"), record):
            if path.exists():
                shutil.move(path, DIRECTORY / path.name)
        (DIRECTORY / record.name).touch(mode=0o600)  # what the hook looks for, also where libvirt had given it up
    except OSError as error:
        raise HostError(f"libvirt's record {record} can't be held aside: {error.strerror}") from error
    return (
        f"libvirt's record of it is held aside in {DIRECTORY}: libvirt shows the domain shut off, or not at all, and "
        f"{_refusal()}"
    )


def _refusal() -> str:
    """See that the hook is there: the daemon looks for it when it starts.  What to tell the user."""
    try:
        hooks.put(HOOK)
    except HostError as error:
        log.warning("%s", error.message)
        return "must never start it, for then there are two (libvirt's hook that refuses it isn't in place)"
    return "refuses to start it"


def refuses() -> bool:
    """Whether the hook is in its place."""
    return any(hook.name == HOOK and hook.state is HookState.INSTALLED for hook in hooks.status())


def names() -> list[str]:
    """The domains whose record is held."""
    return sorted(path.stem for path in DIRECTORY.glob("*.xml"))


def text(name: str) -> str:
    """The record that is held.  Raises HostError."""
    return atomic.read_text(DIRECTORY / f"{name}.xml")


def put_back(record: Path) -> None:
    """What was held is libvirt's again, where it has no newer.  Raises HostError."""
    try:
        for path in (record.with_suffix(".pid"), record):
            aside = DIRECTORY / path.name
            if aside.exists() and aside.stat().st_size and not path.exists():
                shutil.move(aside, path)
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise HostError(f"libvirt's record {record} can't be put back: {error.strerror}") from error


def forget(record: Path) -> None:
    """The domain is settled, and libvirt's own record of it is right."""
    with suppress(OSError):
        atomic.remove(*(str(DIRECTORY / path.name) for path in (record, record.with_suffix(".pid"))))


def name_of(uuid: str, directory: Path) -> str | None:
    """The name of a domain by its UUID, from the records in a directory; None where there is none."""
    for path in directory.glob("*.xml"):
        with suppress(HostError, ParseError, ValueError):
            if status.read(atomic.read_text(path)).uuid == uuid:
                return path.stem
    return None
