"""What is known of a domain before anything is decided: the picture that planning reads, taken once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Emulator:
    """A QEMU binary on disk, or why it can't be used.

    ``version`` as ``QEMU_VERSION (package)``; ``build`` names the very build (ELF build id, or a digest of the file);
    ``target`` is the architecture of its guests, as QAPI's SysEmuTarget spells it.
    """

    path: str
    version: str = ""
    build: str = ""
    target: str = ""
    cpr_transfer: bool = False
    problem: str | None = None


@dataclass(frozen=True)
class ProcessFacts:
    """A running QEMU, from ``/proc``.  ``started`` tells it from a later process of the same number."""

    pid: int
    started: str
    argv: tuple[str, ...]
    build: str
    taps: Mapping[str, tuple[int, ...]]  # interface → its queues' descriptors, in QEMU's own numbers
    listeners: Mapping[str, int]  # path of a listening unix socket → descriptor
    inet_listeners: tuple[int, ...]  # descriptors of listening TCP sockets


@dataclass(frozen=True)
class Chardev:
    label: str
    filename: str


@dataclass(frozen=True)
class FdsetFd:
    fdset: int
    fd: int
    opaque: str | None


@dataclass(frozen=True)
class BlockNode:
    name: str
    file: str
    driver: str


@dataclass(frozen=True)
class Memdev:
    id: str | None
    share: bool
    path: str | None  # of a memory-backend-file
    directory: bool = False


@dataclass(frozen=True)
class QemuFacts:
    """What QEMU itself answers (query-*, qom-list, qom-get)."""

    version: str
    version_tuple: tuple[int, int, int]
    package: str
    target: str
    status: str
    chardevs: tuple[Chardev, ...]
    fdsets: tuple[FdsetFd, ...]
    nodes: tuple[BlockNode, ...]
    memdevs: tuple[Memdev, ...]
    objects: frozenset[str]
    peripherals: frozenset[str]
    iothreads: frozenset[str]
    jobs: tuple[str, ...]
    aux_ram_share: bool
    blocked_reasons: tuple[str, ...]
    return_path: bool


@dataclass(frozen=True)
class DomainFacts:
    """All of it.  Of a domain that isn't running there is no process, no QEMU and no status file."""

    name: str
    uuid: str
    id: int | None
    state: str
    reason: str
    live_xml: str
    busy: str | None  # libvirt's job on the domain, if one is active
    emulator: Emulator
    status_path: str = ""
    status_xml: str = ""
    process: ProcessFacts | None = None
    qemu: QemuFacts | None = None
    lock_manager: str | None = None
