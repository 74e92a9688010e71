"""Hold libvirt's record of a guest aside, if libvirt would kill the guest or misread its state, until that is settled.

libvirt then shows the domain shut off (or doesn't know it, if it is transient), and leaves its QEMU alone.  Nobody must
start the domain meanwhile: libvirt reuses ids, and a second start could use the same directory.  libvirt's `qemu` hook
refuses the start.  One directory per domain, by UUID, with libvirt's files under their own names: `virsh domrename`
changes the name.
"""

from __future__ import annotations

import logging
import os
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
OLD_RECORD = (".xml", ".pid")  # virtcpr 0.1.0 held the files here, without a directory per domain


def hold(uuid: str, record: Path) -> str:
    """Move a domain's status file and pid file aside; the daemon must be down.  Returns what to tell the user.

    Raises HostError if the status file can't be moved: the daemon would read it.
    """
    aside = DIRECTORY / uuid
    try:
        atomic.make_private(aside)
        for path in (record, record.with_suffix(".pid")):
            if path.exists():
                shutil.move(path, aside / path.name)
        (aside / record.name).touch(mode=0o600)  # the hook looks for it, even if libvirt had no record
    except OSError as error:
        raise HostError(f"libvirt's record {record} can't be held aside: {error.strerror}") from error
    return (
        f"libvirt's record of it is held aside in {aside}: libvirt shows the domain shut off, or not at all, and "
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


def held() -> dict[str, str]:
    """The domains whose record is held aside, UUID → name, by name.  Raises HostError if that can't be seen."""
    names: dict[str, str] = {}
    for entry in _listed(DIRECTORY):
        inside = _listed(DIRECTORY / entry) if not entry.endswith(OLD_RECORD) else [entry]
        names.update((entry, name.removesuffix(".xml")) for name in inside if name.endswith(".xml"))
    return dict(sorted(names.items(), key=lambda item: item[1]))


def _listed(directory: Path) -> list[str]:
    """``Path.glob`` finds nothing in a directory that can't be read."""
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HostError(f"{directory} can't be read: {error.strerror}", hint="run it with sudo") from error


def text(uuid: str) -> str:
    """The record that is held aside.  Raises HostError."""
    return atomic.read_text(DIRECTORY / uuid / f"{held().get(uuid, uuid)}.xml")


def put_back(uuid: str, record: Path) -> None:
    """Give the record back to libvirt, unless it has a newer one.  Raises HostError."""
    try:
        for name in _listed(DIRECTORY / uuid):
            aside, path = DIRECTORY / uuid / name, record.with_name(name)
            if aside.stat().st_size and not path.exists():
                shutil.move(aside, path)
    except OSError as error:
        raise HostError(f"libvirt's record {record} can't be put back: {error.strerror}") from error
    forget(uuid)


def tidy() -> None:
    """Remove directories with nothing in them, left if virtcpr was killed: the hook refuses these domains, too.

    Records that virtcpr 0.1.0 held by name get a directory, unless they can't be read: these stay held.
    """
    for entry in _listed(DIRECTORY):
        path = DIRECTORY / entry
        with suppress(OSError, HostError, ParseError, ValueError):
            if not entry.endswith(OLD_RECORD):
                path.rmdir()
            elif entry.endswith(".xml"):
                aside = DIRECTORY / status.read(atomic.read_text(path)).uuid
                atomic.make_private(aside)
                for old in (path, path.with_suffix(".pid")):
                    old.rename(aside / old.name)


def forget(uuid: str) -> None:
    """Remove the files: the domain is settled, and libvirt's own record is right."""
    shutil.rmtree(DIRECTORY / uuid, ignore_errors=True)


def name_of(uuid: str, directory: Path) -> str | None:
    """The name of a domain by its UUID, from the records in a directory; None if there is none."""
    for path in directory.glob("*.xml"):
        with suppress(HostError, ParseError, ValueError):
            if status.read(atomic.read_text(path)).uuid == uuid:
                return path.stem
    return None
