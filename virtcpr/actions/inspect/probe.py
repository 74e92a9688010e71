"""Collect the facts about a domain that planning reads.  Changes only libvirt's ``custom-monitor`` taint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from virtcpr.actions.inspect import helpers, qom, ram_devices
from virtcpr.actions.inspect.emulators import Emulators
from virtcpr.actions.records import saves
from virtcpr.domain import qmp
from virtcpr.domain.argv import CommandLine
from virtcpr.domain.facts import (
    DomainFacts,
    Emulator,
    FdsetFd,
    HostFacts,
    Memdev,
    Port,
    ProcessFacts,
    QemuFacts,
    RamDevice,
)
from virtcpr.domain.libvirt_conf import setting
from virtcpr.domain.live import LiveDomain
from virtcpr.domain.reconcile.devices import used
from virtcpr.domain.sockets import final
from virtcpr.domain.status import DisplayPassword, display_password
from virtcpr.errors import HostError, ParseError, VirtcprError
from virtcpr.host.files.atomic import kind_of, read_text
from virtcpr.host.libvirt.connection import Domain
from virtcpr.host.libvirt.daemon import STATE_DIR
from virtcpr.host.network import ports as bridge
from virtcpr.host.processes import libraries, proc, sockets
from virtcpr.host.processes.build import build_of
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu import emulator, kept
from virtcpr.host.system import apparmor, cgroup, memory, selinux
from virtcpr.host.system.paths import PATHS, SYSTEM

Ask = Callable[..., object]
PING_SECONDS = 1
DISPLAYS = ("vnc", "spice")  # QEMU's names of the protocols
IDLE_JOBS = frozenset({"concluded", "null"})


def process_facts(pid: int, qemu: QemuFacts, line: CommandLine | None) -> ProcessFacts:
    """``qemu`` is what it reports; ``line`` as in ``qemu_facts``."""
    process = Process.of(pid)
    targets = process.fd_targets()
    unix, inet = sockets.listeners(process, targets)
    return ProcessFacts(
        pid=pid,
        started=process.started,
        argv=process.argv(),
        build=build_of(process.path / "exe"),
        modules=proc.has_modules(process, qemu.package),
        taps=proc.taps(process, targets),
        listeners={final(name): number for name, number in unix.items()},
        inet_listeners=tuple(inet),
        ports=inet,
        vhosts=sum(target == "/dev/vhost-net" for target in targets.values()),
        age=proc.age(process),
        libraries=libraries.replaced(process),
        own_memory=proc.own_memory(process),
        memory_room=cgroup.memory_room(process.path),
        helpers=helpers.look(line, _back_ends(qemu, line)),
    )


def _back_ends(qemu: QemuFacts, line: CommandLine | None) -> list[str]:
    """The character devices and network back ends that QEMU has; of these it reports who uses them."""
    netdevs = used(line, qemu, "netdev") if line else {}
    return [*(chardev.label for chardev in qemu.chardevs), *netdevs]


def qemu_facts(ask: Ask, root: str, line: CommandLine | None) -> QemuFacts:
    """What QEMU reports over QMP.

    ``ask`` executes one QMP command.  ``root`` is the file system that QEMU sees.  ``line`` is its command line, None
    if it can't be parsed.
    """
    version, package = qmp.version(ask("query-version"))
    block = ask("query-block")
    objects = qmp.children(ask("qom-list", {"path": "/objects"}))
    devices = qom.devices(ask, line)
    parameters = qmp.obj(ask("query-migrate-parameters"))
    jobs = [qmp.obj(job) for job in qmp.items(ask("query-jobs"))]
    return QemuFacts(
        version=qmp.version_text(version, package),
        version_tuple=version,
        package=package,
        target=qmp.text(qmp.obj(ask("query-target"))["arch"]),
        status=qmp.text(qmp.obj(ask("query-status"))["status"]),
        chardevs=qmp.chardevs(ask("query-chardev")),
        fdsets=tuple(qmp.fdsets(ask("query-fdsets"))),
        nodes=qmp.block_nodes(ask("query-named-block-nodes", {"flat": True}), ask("query-blockstats")),
        memdevs=tuple(_backend(ask, memdev, objects, root) for memdev in qmp.memdevs(ask("query-memdev"))),
        objects=objects,
        devices=devices,
        settings=qom.objects(ask, line, objects, devices),
        iothreads=frozenset(qmp.iothreads(ask("query-iothreads"))),
        jobs=tuple(qmp.text(job["id"]) for job in jobs if qmp.text(job["status"]) not in IDLE_JOBS),
        aux_ram_share=_aux_ram_share(ask),
        blocked_reasons=qmp.blocked_reasons(ask("query-migrate")),
        mode=qmp.text(parameters.get("mode")) or "normal",  # the only one before 8.2
        limits=qmp.limits(parameters),
        capabilities=qmp.capabilities(ask("query-migrate-capabilities")),
        vfio=_hands_over_vfio(ask, line),
        drives=qom.drives(ask, qmp.drives(block), devices),
        legacy=qmp.legacy_drives(block),
    )


def _hands_over_vfio(ask: Ask, line: CommandLine | None) -> bool:
    """Asked only of a QEMU that has such a device."""
    devices = line.named("device") if line else ()
    if not any(str(device.properties().get("driver", "")).startswith("vfio-") for device in devices):
        return False
    return qmp.hands_over_vfio(ask(emulator.EVENTS, emulator.VFIO_EVENTS))


def _aux_ram_share(ask: Ask) -> bool:
    """The property exists since QEMU 10.0; older QEMU would answer with an error."""
    properties = qmp.properties(ask("qom-list", {"path": "/machine"}), "bool")
    return "aux-ram-share" in properties and ask("qom-get", {"path": "/machine", "property": "aux-ram-share"}) is True


def _backend(ask: Ask, memdev: Memdev, objects: Mapping[str, str], root: str) -> Memdev:
    """Add the kind; for file-backed RAM, what is at its path: in a directory the file has no name (hostmem-file.c)."""
    kind = objects.get(memdev.id or "", "")
    memdev = replace(memdev, kind=kind)
    if kind != "memory-backend-file":
        return memdev

    def get(name: str) -> object:
        return ask("qom-get", {"path": f"/objects/{memdev.id}", "property": name})

    path = qmp.text(get("mem-path"))
    return replace(memdev, path=path, place=kind_of(Path(f"{root}{path}")), discard=get("discard-data") is True)


def _qemu_conf() -> str:
    """The text of qemu.conf; empty if there is none.  Raises HostError if it can't be read: it isn't empty then."""
    try:
        return PATHS.qemu_conf.read_text(encoding="utf-8", errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise HostError(
            f"{PATHS.qemu_conf} can't be read: {error.strerror}; whether libvirt has a lock manager isn't known",
            hint=f"see why: ls -l {PATHS.qemu_conf}",
        ) from error


def _waiting() -> frozenset[str]:
    """UUIDs of the domains whose state waits for `restore`."""
    with suppress(HostError):  # a user's own are never saved
        return frozenset(saves.waiting())
    return frozenset()


def ports(live: LiveDomain) -> dict[str, Port]:
    """The domain's interfaces on the host."""
    pairs = ((nic.target, bridge.port(nic.target)) for nic in live.interfaces() if nic.target)
    return {name: Port(*port) for name, port in pairs if port is not None}


def outputs(live: LiveDomain, fdsets: tuple[FdsetFd, ...], targets: Mapping[int, str]) -> dict[str, str]:
    """Where QEMU writes logs, from its descriptors (``targets``): its output, libvirt's pipes, files."""
    held = {
        "QEMU's own output": 1,
        "QEMU's own errors": 2,
        **{f"{member.opaque} of set {member.fdset}": member.fd for member in fdsets},
    }
    files = {path: path for path in live.logs() if path in targets.values()}
    return {what: targets[fd] for what, fd in held.items() if fd in targets} | files


def _may_run_now(pid: int, emulator: str) -> bool:
    profile = apparmor.profile_of(Process.of(pid))
    return not (profile and apparmor.forbids(profile, emulator))


def _may_make_memfds(pid: int) -> bool:
    profile = apparmor.profile_of(Process.of(pid))
    return not (profile and apparmor.forbids(profile, apparmor.MEMFD, apparmor.MAY_WRITE))


def _line(pid: int) -> CommandLine | None:
    """A process's command line, None if it can't be parsed: the rule 'argv' reports that."""
    with suppress(ParseError):
        return CommandLine.parse(Process.of(pid).argv())
    return None


class Probe:
    """Collects the facts about domains.  Facts about the host and the emulators are read once."""

    def __init__(
        self, emulator: str | None = None, *, emulators: Mapping[str, str] | None = None, ping: bool = False
    ) -> None:
        """``emulator`` replaces the emulator in each domain's XML, ``emulators`` are the ways back of domains, by UUID.

        ``ping``: ask the guest agents, too.

        Raises HostError if libvirt's configuration can't be read.
        """
        self.emulator = emulator
        self.by_uuid = emulators or {}
        self.ping = ping
        self.emulators = Emulators()
        self.conf = _qemu_conf()
        self.lock_manager = setting(self.conf, "lock_manager")
        self.passwords = {kind: setting(self.conf, f"{kind}_password") for kind in DISPLAYS}
        self.waiting = _waiting()
        self.host = HostFacts(
            memory.available_kib(), memory.free_hugepages(), memory.merges(), ram_devices.confines_memfds(self.conf)
        )

    def facts(self, domain: Domain) -> DomainFacts:
        """All facts about a domain.  If they can't be read, the reason is in ``problem``; nothing is raised."""
        facts = DomainFacts(domain.name, domain.uuid, domain.id, "", "", "<domain/>", Emulator(""))
        try:
            facts = self._libvirt(domain, facts)
            return facts if domain.id is None else self._running(domain, facts)
        except (VirtcprError, OSError) as error:
            return replace(facts, problem=str(error))
        except ValueError as error:  # a bad number or path in libvirt's record
            return replace(facts, problem=f"unexpected answer from libvirt or QEMU: {error!r}")

    def stored(self, domain: Domain) -> DomainFacts:
        """A domain as of its next boot; its XML contains secrets.  Raises HostError and ParseError."""
        persistent = domain.persistent_xml()
        xml = domain.stored_xml()
        return DomainFacts(
            name=domain.name,
            uuid=domain.uuid,
            id=domain.id,
            state=domain.state()[0],
            reason="",
            xml=xml,
            persistent_xml=persistent,
            emulator=self._emulator(domain, xml),
            saved=domain.has_saved_state(),
            host=self.host,
        )

    def ram_devices(self, live: LiveDomain) -> tuple[RamDevice, ...]:
        """The devices of the host that QEMU's arguments in the XML use as RAM."""
        paths = sorted({path for path, _ in live.ram_files() if path.startswith("/dev/dax")})
        return tuple(ram_devices.look(path, self.conf) for path in paths)

    def _libvirt(self, domain: Domain, facts: DomainFacts) -> DomainFacts:
        xml = domain.xml()
        state, reason = domain.state()
        waits = domain.id is None and domain.uuid in self.waiting
        return replace(
            facts,
            state="saved" if waits else state,
            reason=reason,
            waits=waits,
            xml=xml,
            persistent_xml=domain.persistent_xml(),
            emulator=self._emulator(domain, xml),
            host=self.host,
            lock_manager=self.lock_manager,
            session=PATHS is not SYSTEM,
        )

    def _display_passwords(self, status_xml: str) -> dict[str, DisplayPassword]:
        found = {kind: display_password(status_xml, kind, default) for kind, default in self.passwords.items()}
        return {kind: password for kind, password in found.items() if password is not None}

    def _emulator(self, domain: Domain, xml: str) -> Emulator:
        """The emulator that the domain should run in.  Raises ParseError.

        One that went back is still known to libvirt as what is installed; mode reboot had libvirt start a kept build.
        """
        own = kept.installed(LiveDomain.of(xml).emulator)
        if way_back := self.by_uuid.get(domain.uuid):
            return replace(self.emulators.get(way_back), known_as=own)
        return self.emulators.get(self.emulator or own)

    def _running(self, domain: Domain, facts: DomainFacts) -> DomainFacts:
        path = STATE_DIR / f"{domain.name}.xml"
        # Before the first monitor command, which taints the domain.
        facts = replace(facts, status_path=str(path), status_xml=read_text(path))
        pid = facts.status.pid
        line = _line(pid)
        now = _may_run_now(pid, facts.emulator.path)
        qemu = qemu_facts(domain.monitor, f"/proc/{pid}/root", line)
        return replace(
            facts,
            ports=ports(facts.live),
            outputs=outputs(facts.live, qemu.fdsets, Process.of(pid).fd_targets()),
            agent=domain.agent_answers(PING_SECONDS) if self.ping and facts.live.has_agent() else None,
            busy=domain.job(),
            process=replace(
                process_facts(pid, qemu, line),
                may_run=now or apparmor.lets_guests_run(facts.emulator.path),
                may_run_now=now,
                refused_label=selinux.refuses_label(Process.of(pid)),
                may_make_memfds=_may_make_memfds(pid),
            ),
            qemu=qemu,
            display_passwords=self._display_passwords(facts.status_xml),
        )
