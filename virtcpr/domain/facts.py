"""The facts about a domain, read once; planning uses nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from virtcpr.domain.argv import CommandLine
from virtcpr.domain.helpers.helper import Helper
from virtcpr.domain.live import LiveDomain
from virtcpr.domain.status import DisplayPassword, StatusFile, read

PERIPHERAL = "/machine/peripheral/"


@dataclass(frozen=True)
class Emulator:
    """A QEMU binary on disk, or why it can't be used.

    ``version`` as ``QEMU_VERSION (package)``; ``build`` identifies the build (ELF build id, or a digest of the file) of
    the program that runs in the end: the file can be a script.
    ``target`` is the architecture of its guests, as QAPI's SysEmuTarget spells it; ``modes`` are the migration modes,
    ``machines`` the machine types that it knows.  ``number`` is (major, minor, micro).  ``exit_on_error``: its command
    migrate-incoming has this argument (QEMU 9.1).  ``vfio``: it hands over VFIO devices.  ``forbidden_by``: the
    AppArmor profile that doesn't let libvirt's daemon run it.  ``known_as``: the path that libvirt's record names
    instead, if it isn't libvirt that starts it.
    """

    path: str
    version: str = ""
    build: str = ""
    target: str = ""
    modes: frozenset[str] = frozenset()
    machines: frozenset[str] = frozenset()
    number: tuple[int, int, int] = (0, 0, 0)
    exit_on_error: bool = False
    vfio: bool = False
    forbidden_by: str | None = None
    known_as: str = ""
    problem: str | None = None

    @property
    def recorded(self) -> str:
        """The path for libvirt's record."""
        return self.known_as or self.path


@dataclass(frozen=True)
class ProcessFacts:
    """A running QEMU, from ``/proc``.  ``started`` distinguishes it from a later process with the same pid."""

    pid: int
    started: str
    argv: tuple[str, ...]
    build: str
    modules: bool  # whether modules of its own build are still where it looks for them
    taps: Mapping[str, tuple[int, ...]]  # interface → its queues' descriptors, in QEMU's own numbers
    listeners: Mapping[str, int]  # path of a listening unix socket → descriptor
    inet_listeners: tuple[int, ...]  # descriptors of listening TCP sockets
    ports: Mapping[int, int] = field(default_factory=dict)  # descriptor of a listening TCP socket → port
    vhosts: int = 0  # descriptors of /dev/vhost-net
    age: float = 0.0  # seconds since it was started
    libraries: tuple[str, ...] = ()  # those in memory that were replaced on disk
    own_memory: int = 0  # KiB that are its alone: not the guest's RAM, if that is shared
    may_run: bool = True  # whether the guest's AppArmor profile lets its emulator be run, now or after its next start
    may_run_now: bool = True  # the same of the profile as it is loaded
    refused_label: str | None = None  # its label, if SELinux lets virtcpr start no other QEMU with it
    may_make_memfds: bool = True  # of huge pages: whether the guest's AppArmor profile, as it is loaded, lets it
    memory_room: int | None = None  # KiB that the limits of its cgroups leave; None: there are none
    helpers: tuple[Helper, ...] = ()  # the processes that serve it

    @cached_property
    def line(self) -> CommandLine:
        """``argv``, read.  Raises ParseError if it can't be understood."""
        return CommandLine.parse(self.argv)


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
class Below:
    """The nodes below a block node, by name: its data (or the node that it filters), and its backing image."""

    data: str | None = None
    backing: str | None = None


@dataclass(frozen=True)
class BlockNode:
    name: str
    file: str
    driver: str
    threshold: int = 0  # bytes written after which QEMU sends an event; 0: none
    size: int | None = None  # bytes that a guest sees; None: QEMU doesn't say
    read_only: bool = False
    direct: bool = False  # past the host's page cache
    no_flush: bool = False
    detect_zeroes: str = "off"
    below: Below | None = None  # None: unknown, as QEMU reports it only for nodes of a drive

    @property
    def describe(self) -> str:
        """In words that all releases share: the spelling of a json: file name depends on the release.

        Without size and read-only, which are reliable only for an active node, and without the threshold, which
        vanishes once it is reached.
        """
        file = "" if self.file.startswith("json:") else f", {self.file}"
        return f"{self.name} ({self.driver}{file})"


@dataclass(frozen=True)
class Drive:
    """A device that can hold a medium.  ``path`` is QEMU's name of the device: its id, or its QOM path."""

    path: str
    node: str | None  # None: no medium
    throttle: Mapping[str, object] = field(default_factory=dict)  # as block_set_io_throttle takes it; empty: none
    floppy: str | None = None  # the type that QEMU gave a floppy drive for its first medium

    @property
    def device(self) -> str:
        """The id of the device on the command line; empty if it has none, like the machine's flash."""
        if not self.path.startswith("/"):
            return self.path
        return self.path.removeprefix(PERIPHERAL).partition("/")[0] if self.path.startswith(PERIPHERAL) else ""


@dataclass(frozen=True)
class Memdev:
    """RAM: a memory backend.  ``kind`` is its QOM type; the rest except ``share`` is for a memory-backend-file only."""

    id: str | None
    share: bool
    kind: str = ""
    path: str | None = None
    place: str = ""  # what the path is, as QEMU sees it: file, directory, device or missing
    discard: bool = False


@dataclass(frozen=True)
class Device:
    """A device that has an id.

    ``attached``: it was attached since the machine started, whatever the command line says about that id.  Then
    ``settings`` are its driver's properties that aren't the default, as QOM has them, and ``bus`` is its bus.
    """

    driver: str
    attached: bool = False
    bus: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)


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
    objects: Mapping[str, str]  # id → QOM type
    devices: Mapping[str, Device]
    settings: Mapping[str, Mapping[str, object]]  # objects that attached devices use, or that are new: id → QOM's
    iothreads: frozenset[str]
    jobs: tuple[str, ...]
    aux_ram_share: bool
    blocked_reasons: tuple[str, ...]  # for the current migration mode
    mode: str
    capabilities: frozenset[str]  # those that are on
    vfio: bool = False  # it hands over VFIO devices; asked if it has one
    drives: tuple[Drive, ...] = ()
    limits: Mapping[str, int] = field(
        default_factory=dict
    )  # of its migrations: max-bandwidth (bytes/s), downtime-limit
    legacy: frozenset[str] | None = (
        None  # the files in drives of ``-drive``, which libvirt has none of; None: not asked
    )

    @property
    def handed_over(self) -> bool:
        """Whether new QEMU can take over its RAM."""
        shared = all(memdev.share and memdev.place != "directory" for memdev in self.memdevs)
        return self.aux_ram_share and bool(self.memdevs) and shared

    @property
    def attached(self) -> frozenset[str]:
        """The devices that were attached since the guest started."""
        return frozenset(name for name, device in self.devices.items() if device.attached)


@dataclass(frozen=True)
class Port:
    """An interface of the host: the bridge or switch that it belongs to, if any, and whether it is up."""

    bridge: str | None
    up: bool


@dataclass(frozen=True)
class RamDevice:
    """A device of the host that is to hold a guest's RAM, and whether QEMU could open it.

    ``user`` is QEMU's, and ``opens``: the device's mode lets it.  ``acl`` are the devices that libvirt shows to every
    QEMU, and lets it open.  ``confined``: AppArmor confines QEMU, and ``allowed``: it lets every QEMU open the device.
    """

    path: str
    there: bool
    user: str
    opens: bool
    acl: tuple[str, ...]
    confined: bool
    allowed: bool


@dataclass(frozen=True)
class HostFacts:
    """Memory for a second guest: ``available`` in KiB, and the free hugepages by their size in KiB.

    ``ksm``: the kernel merges equal pages of the guests.  ``confines_memfds``: AppArmor lets no QEMU that libvirt
    starts make memfds of huge pages.
    """

    available: int
    hugepages: Mapping[int, int]
    ksm: bool = False
    confines_memfds: bool = False


@dataclass(frozen=True)
class DomainFacts:
    """All facts about a domain.  If it isn't running, there is no process, no QEMU and no status file.

    Texts are as libvirt gave them; ``live``, ``stored`` and ``status`` are the same, parsed once.

    ``xml`` is the live XML, or the persistent XML if it doesn't run.  ``offline``: only that document is known, no
    libvirt and no emulator.  ``problem`` says why a running domain could not be examined.  ``ports`` are its
    interfaces on the host; ``outputs`` are the targets of its logs, as /proc names them; ``agent``: whether the guest
    agent answers, None if it wasn't asked; ``display_passwords``: those that libvirt knows, by protocol;
    ``ram_devices``: those in ``xml``, which `prepare` looks at.
    """

    name: str
    uuid: str
    id: int | None
    state: str
    reason: str
    xml: str
    emulator: Emulator
    persistent_xml: str | None = None  # None: transient
    busy: str | None = None  # libvirt's job on the domain, if one is active
    status_path: str = ""
    status_xml: str = ""
    process: ProcessFacts | None = None
    qemu: QemuFacts | None = None
    lock_manager: str | None = None
    host: HostFacts | None = None
    ports: Mapping[str, Port] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    agent: bool | None = None
    display_passwords: Mapping[str, DisplayPassword] = field(default_factory=dict)
    ram_devices: tuple[RamDevice, ...] = ()
    session: bool = False  # it belongs to qemu:///session
    saved: bool = False  # the next start restores a managed save
    waits: bool = False  # virtcpr has its state on disk: only `restore` may start it
    problem: str | None = None
    offline: bool = False

    @classmethod
    def of_document(cls, xml: str) -> DomainFacts:
        """The facts in a domain's XML alone.  Raises ParseError."""
        live = LiveDomain.of(xml)
        return cls(live.name, live.uuid, None, "", "", xml, Emulator(live.emulator), offline=True)

    @cached_property
    def live(self) -> LiveDomain:
        """``xml``, read.  Raises ParseError if it isn't a domain's."""
        return LiveDomain.of(self.xml)

    @cached_property
    def stored(self) -> LiveDomain | None:
        """``persistent_xml``, read; None if there is none.  Raises ParseError if it isn't a domain's."""
        return LiveDomain.of(self.persistent_xml) if self.persistent_xml else None

    @property
    def prepared(self) -> bool | None:
        """Whether its persistent XML is ready for mode transfer; None without one.  Raises ParseError."""
        return self.stored.handed_over() if self.stored else None

    @property
    def current(self) -> bool:
        """Whether it runs the installed build, with the libraries that are on disk."""
        process, emulator = self.process, self.emulator
        if process is None or emulator.problem:
            return False
        return process.build == emulator.build and not process.libraries

    @cached_property
    def status(self) -> StatusFile:
        """``status_xml``, read.  Raises ParseError if it isn't a status file, or there is none."""
        return read(self.status_xml)
