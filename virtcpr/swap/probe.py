"""Take the picture of a domain that planning reads.  Nothing is changed but libvirt's ``custom-monitor`` taint."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from virtcpr.domain import qmp
from virtcpr.domain.facts import DomainFacts, Emulator, Memdev, ProcessFacts, QemuFacts
from virtcpr.domain.live import LiveDomain
from virtcpr.domain.status import read
from virtcpr.host import emulator as binary
from virtcpr.host import proc
from virtcpr.host.daemon import STATE_DIR
from virtcpr.host.files import read_text
from virtcpr.host.libvirt import Domain
from virtcpr.host.proc import Process

Ask = Callable[..., object]
IDLE_JOBS = frozenset({"concluded", "null"})


class Emulators:
    """The installed emulators, each asked once."""

    def __init__(self) -> None:
        self._known: dict[str, Emulator] = {}

    def get(self, path: str) -> Emulator:
        if path not in self._known:
            self._known[path] = asyncio.run(_inspect(path))
        return self._known[path]


async def _inspect(path: str) -> Emulator:
    try:
        build, answers = await binary.inspect(path)
    except binary.NotAnEmulator as problem:
        return Emulator(path, problem=str(problem))
    version, package = qmp.version(answers["query-version"])
    return Emulator(
        path,
        version=qmp.version_text(version, package),
        build=build,
        target=qmp.text(qmp.obj(answers["query-target"])["arch"]),
        cpr_transfer=qmp.has_migration_mode(answers["query-qmp-schema"], "cpr-transfer"),
    )


def process_facts(pid: int) -> ProcessFacts:
    process = Process.of(pid)
    targets = process.fd_targets()
    unix, inet = proc.listeners(process, targets)
    return ProcessFacts(
        pid=pid,
        started=process.started,
        argv=process.argv(),
        build=proc.build_of(process.path / "exe"),
        taps=proc.taps(process, targets),
        listeners=unix,
        inet_listeners=inet,
    )


def qemu_facts(ask: Ask) -> QemuFacts:
    """What QEMU says of itself; ``ask`` executes one QMP command."""
    version, package = qmp.version(ask("query-version"))
    jobs = [qmp.obj(job) for job in qmp.items(ask("query-jobs"))]
    return QemuFacts(
        version=qmp.version_text(version, package),
        version_tuple=version,
        package=package,
        target=qmp.text(qmp.obj(ask("query-target"))["arch"]),
        status=qmp.text(qmp.obj(ask("query-status"))["status"]),
        chardevs=qmp.chardevs(ask("query-chardev")),
        fdsets=tuple(qmp.fdsets(ask("query-fdsets"))),
        nodes=qmp.block_nodes(ask("query-named-block-nodes", {"flat": True})),
        memdevs=tuple(_named_file(ask, memdev) for memdev in qmp.memdevs(ask("query-memdev"))),
        objects=qmp.names(ask("qom-list", {"path": "/objects"})),
        peripherals=qmp.names(ask("qom-list", {"path": "/machine/peripheral"})),
        iothreads=frozenset(qmp.iothreads(ask("query-iothreads"))),
        jobs=tuple(qmp.text(job["id"]) for job in jobs if qmp.text(job["status"]) not in IDLE_JOBS),
        aux_ram_share=_aux_ram_share(ask),
        blocked_reasons=qmp.blocked_reasons(ask("query-migrate")),
        return_path=qmp.capability(ask("query-migrate-capabilities"), "return-path"),
    )


def _aux_ram_share(ask: Ask) -> bool:
    """The property came with QEMU 10.0; asking an older one would be an error."""
    properties = qmp.names(ask("qom-list", {"path": "/machine"}), kind="bool")
    return "aux-ram-share" in properties and ask("qom-get", {"path": "/machine", "property": "aux-ram-share"}) is True


def _named_file(ask: Ask, memdev: Memdev) -> Memdev:
    """The path of file-backed RAM, and whether it is only a directory's (hostmem-file.c creates an unnamed file)."""
    if memdev.id is None:
        return memdev
    kinds = {
        qmp.text(qmp.obj(o)["name"]): qmp.text(qmp.obj(o)["type"])
        for o in qmp.items(ask("qom-list", {"path": "/objects"}))
    }
    if kinds.get(memdev.id) != "child<memory-backend-file>":
        return memdev
    path = qmp.text(ask("qom-get", {"path": f"/objects/{memdev.id}", "property": "mem-path"}))
    return replace(memdev, path=path, directory=not Path(path).is_file())


def lock_manager() -> str | None:
    """The lock manager that qemu.conf names; None is the default, none at all."""
    try:
        text = Path("/etc/libvirt/qemu.conf").read_text()
    except OSError:
        return None
    found = re.findall(r'^\s*lock_manager\s*=\s*"([^"]*)"', text, re.MULTILINE)
    return found[-1] if found else None


def domain_facts(domain: Domain, emulators: Emulators, emulator: str | None) -> DomainFacts:
    """Everything about one domain.  Raises HostError or ParseError where a part can't be had."""
    state, reason = domain.state()
    xml = domain.live_xml()
    facts = DomainFacts(
        name=domain.name,
        uuid=domain.uuid,
        id=domain.id,
        state=state,
        reason=reason,
        live_xml=xml,
        busy=None,
        emulator=emulators.get(emulator or LiveDomain.of(xml).emulator),
    )
    if domain.id is None:
        return facts
    path = STATE_DIR / f"{domain.name}.xml"
    status = read_text(path)  # before the first monitor command, which taints the domain
    return replace(
        facts,
        busy=domain.job(),
        status_path=str(path),
        status_xml=status,
        process=process_facts(read(status).pid),
        qemu=qemu_facts(domain.monitor),
        lock_manager=lock_manager(),
    )
