"""Every reason why a domain can't be moved, or only with a warning: facts in, findings out, nothing touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from virtcpr.domain.argv import CommandLine
from virtcpr.domain.facts import DomainFacts, QemuFacts
from virtcpr.domain.live import LiveDomain
from virtcpr.domain.status import read
from virtcpr.errors import ParseError
from virtcpr.model import Finding, Severity

Rule = Callable[[DomainFacts], Iterator[Finding]]


def blocker(code: str, message: str, remedy: str) -> Finding:
    return Finding(code, Severity.BLOCKER, message, remedy)


def warning(code: str, message: str, remedy: str) -> Finding:
    return Finding(code, Severity.WARNING, message, remedy)


def findings(facts: DomainFacts) -> tuple[Finding, ...]:
    """All findings on one domain, never the first only.  Pure."""
    rules = ALWAYS if facts.process is None else (*ALWAYS, *RUNNING)
    return tuple(finding for rule in rules for finding in rule(facts))


def blocks(found: tuple[Finding, ...]) -> bool:
    return any(finding.severity is Severity.BLOCKER for finding in found)


def _state(facts: DomainFacts) -> Iterator[Finding]:
    if facts.process is None:
        yield blocker(
            "not-running", f"the domain is {facts.state}", f"nothing to move: the next 'virsh start {facts.name}' "
            "runs the installed QEMU",
        )  # fmt: skip
    elif facts.state == "paused" and facts.reason != "user":
        yield blocker(
            "paused", f"the domain is paused by libvirt or QEMU ({facts.reason})",
            f"solve what stopped it, then 'virsh resume {facts.name}'",
        )  # fmt: skip
    elif facts.state not in ("running", "paused", "idle"):
        yield blocker("state", f"the domain is {facts.state}", "wait until it runs")


def _emulator(facts: DomainFacts) -> Iterator[Finding]:
    emulator = facts.emulator
    if emulator.problem:
        yield blocker(
            "emulator", f"the emulator {emulator.path} {emulator.problem}",
            "install QEMU, or name a binary with --emulator PATH",
        )  # fmt: skip
        return
    if facts.qemu is not None and emulator.target != facts.qemu.target:
        yield blocker(
            "emulator-arch", f"the emulator {emulator.path} runs {emulator.target} guests, this one is "
            f"{facts.qemu.target}", "name an emulator of the guest's architecture",
        )  # fmt: skip
    elif not emulator.cpr_transfer:
        yield blocker(
            "emulator-cpr", f"the emulator {emulator.path} ({emulator.version}) can't do cpr-transfer",
            "install QEMU 10.0 or newer",
        )  # fmt: skip


def _version(facts: DomainFacts) -> Iterator[Finding]:
    qemu = _qemu(facts)
    if qemu.version_tuple < (10, 0, 0):
        yield blocker(
            "qemu-old", f"the guest runs in QEMU {qemu.version}, cpr-transfer needs 10.0",
            "restart the guest once on the installed QEMU ('virsh shutdown', 'virsh start')",
        )  # fmt: skip


def _memory(facts: DomainFacts) -> Iterator[Finding]:
    qemu = _qemu(facts)
    prepare = (
        "add <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking> to the domain, "
        "then shut it down and start it"
    )
    private = [m.id or "unnamed" for m in qemu.memdevs if not m.share]
    if private or not qemu.memdevs:
        yield blocker("ram-private", f"RAM isn't shared ({', '.join(private) or 'no memory backend'})", prepare)
    for memdev in qemu.memdevs:
        if memdev.share and memdev.directory:
            yield blocker(
                "ram-directory", f"RAM {memdev.id} is a file in a directory ({memdev.path}): QEMU would hand over "
                "nothing and the guest would wake up in blank RAM", prepare,
            )  # fmt: skip
    if not qemu.aux_ram_share:
        yield blocker(
            "aux-ram-share", "the machine runs without aux-ram-share=on",
            "add <qemu:commandline><qemu:arg value='-machine'/><qemu:arg value='aux-ram-share=on'/>"
            "</qemu:commandline> to the domain, then shut it down and start it",
        )  # fmt: skip


def _jobs(facts: DomainFacts) -> Iterator[Finding]:
    status = read(facts.status_xml)
    at_work = [*status.busy, *(["a job"] if facts.busy and "a job" not in status.busy else [])]
    at_work += [f"QEMU's job {job}" for job in _qemu(facts).jobs]
    if at_work:
        yield blocker(
            "job", f"libvirt or QEMU is busy with the domain: {', '.join(at_work)}",
            f"wait for it ('virsh domjobinfo {facts.name}', 'virsh blockjob'), then try again",
        )  # fmt: skip


def _lock_manager(facts: DomainFacts) -> Iterator[Finding]:
    if facts.lock_manager not in (None, "nop"):
        yield blocker(
            "lock-manager", f"libvirt holds leases of the disks ({facts.lock_manager})",
            "a lease belongs to a process and can't be handed over: restart the guest instead",
        )  # fmt: skip


def _blocked_reasons(facts: DomainFacts) -> Iterator[Finding]:
    for reason in _qemu(facts).blocked_reasons:
        yield blocker("qemu-blocked", f"QEMU: {reason}", "detach that device, or restart the guest instead")


# Elements of the live XML that can't follow a guest into another process, or not yet: (path, what, remedy).
REFUSED_DEVICES = (
    ("devices/vsock", "a vsock device: its CID is held by the old process", "detach it"),
    ("devices/hostdev", "a host device (passthrough)", "detach it, or restart the guest"),
    ("devices/filesystem", "a shared file system (virtiofs, 9p)", "unmount and detach it, or restart the guest"),
    ("devices/tpm", "a TPM", "restart the guest"),
    ("devices/redirdev", "a redirected USB device", "detach it"),
    ("devices/smartcard", "a smartcard", "detach it"),
    ("devices/shmem", "shared memory (ivshmem)", "detach it"),
    ("devices/crypto", "a crypto device", "detach it"),
    ("devices/sound[@model='virtio']", "a virtio sound device", "use another sound model"),
    ("devices/graphics[@type='spice']", "a SPICE display: its connections can't be handed over", "use VNC"),
    ("devices/graphics[@type='dbus']", "a D-Bus display", "use VNC"),
    ("devices/graphics[@type='egl-headless']", "an OpenGL display", "restart the guest"),
    ("devices/graphics[@type='rdp']", "an RDP display", "use VNC"),
    ("devices/graphics[@type='sdl']", "an SDL display", "use VNC"),
    ("devices/memory[@model='virtio-mem']", "a virtio-mem device", "restart the guest"),
    ("devices/graphics[@websocket]", "a VNC websocket", "restart the guest"),
    ("devices/video/model/acceleration[@accel3d='yes']", "3D acceleration (virgl)", "restart the guest"),
    ("devices/interface/driver[@queues]", "a network interface with several queues", "restart the guest"),
    ("devices/disk[@type='nvme']", "an NVMe disk of the host", "restart the guest"),
    ("devices/disk[@type='vhostuser']", "a vhost-user disk", "restart the guest"),
    ("devices/disk[@type='vhostvdpa']", "a vDPA disk", "restart the guest"),
    ("devices/disk/iotune", "I/O throttling, which new QEMU wouldn't know", "remove it with 'virsh blkdeviotune'"),
    ("devices/disk/transient", "a transient disk", "restart the guest"),
    ("devices/disk/source/reservations", "a persistent reservation helper", "restart the guest"),
    ("devices/disk//slices", "a slice of a disk", "restart the guest"),
    ("devices/*[@type='tcp']", "a character device on a TCP port", "detach it, or restart the guest"),
    ("devices/*[@type='udp']", "a character device on a UDP port", "detach it, or restart the guest"),
    ("devices/*/source[@mode='connect']", "a character device connected to a peer", "detach it, or restart the guest"),
    ("devices/*[@type='spicevmc']", "a SPICE channel", "detach it"),
    ("devices/*[@type='qemu-vdagent']", "a clipboard channel (vdagent)", "detach it"),
    ("launchSecurity", "an encrypted guest (SEV, TDX)", "restart the guest"),
)  # fmt: skip
CARRIED_INTERFACES = frozenset({"network", "bridge", "ethernet"})


def _devices(facts: DomainFacts) -> Iterator[Finding]:
    live = LiveDomain.of(facts.live_xml)
    for path, what, remedy in REFUSED_DEVICES:
        if live.has(path):
            yield blocker("device", f"the domain has {what}", remedy)
    for interface in live.interfaces():
        if interface.kind not in CARRIED_INTERFACES or interface.backend == "passt":
            yield blocker(
                "interface", f"the network interface {interface.alias} is of type '{interface.kind}'"
                + (" (passt)" if interface.backend == "passt" else "") + ", which can't be handed over",
                f"detach it ('virsh detach-interface {facts.name} {interface.kind}'), or restart the guest",
            )  # fmt: skip


def _secrets(facts: DomainFacts) -> Iterator[Finding]:
    assert facts.process is not None
    line = _command_line(facts.process.argv)
    if line and any(option.properties().get("password") in ("on", True) for option in line.named("vnc")):
        yield blocker(
            "vnc-password", "the VNC display has a password, which the new process wouldn't know",
            "remove the password, then shut the domain down and start it",
        )  # fmt: skip


def _command_line(argv: tuple[str, ...]) -> CommandLine | None:
    try:
        return CommandLine.parse(argv)
    except ParseError:
        return None


def _stale_argv(facts: DomainFacts) -> Iterator[Finding]:
    """A command line that no longer says what the guest has must never start its successor."""
    assert facts.process is not None
    qemu = _qemu(facts)
    line = _command_line(facts.process.argv)
    if line is None:
        yield blocker("argv", "QEMU's command line can't be understood", "restart the guest, and report this as a bug")
        return
    restart = f"undo the change, or restart the guest ('virsh shutdown {facts.name}', 'virsh start {facts.name}')"
    compared = (
        ("devices", line.ids("device"), qemu.peripherals),
        ("objects", line.ids("object"), qemu.objects),
        ("iothreads", _iothread_ids(line), qemu.iothreads),
        ("character devices", line.ids("chardev"), frozenset(c.label for c in qemu.chardevs)),
        ("block nodes", line.ids("blockdev", key="node-name"), frozenset(n.name for n in qemu.nodes)),
    )
    for what, started, now in compared:
        change = [
            *(f"+{name}" for name in sorted(now - started)),
            *(f"-{name}" for name in sorted(started - now)),
        ]
        if change:
            yield blocker(
                "changed",
                f"{what} were added or removed since the guest started: {' '.join(change)}",
                restart,
            )
    macs = {str(o.get("id")): o["mac"] for o in (d.properties() for d in line.named("device")) if "mac" in o}
    for alias, mac in LiveDomain.of(facts.live_xml).macs().items():
        if macs.get(alias, mac) != mac:
            yield blocker("changed", f"interface {alias} was replaced since the guest started: {mac}", restart)
    yield from _stale_files(line, qemu, restart)


def _iothread_ids(line: CommandLine) -> frozenset[str]:
    objects = (option.properties() for option in line.named("object"))
    return frozenset(str(o["id"]) for o in objects if o.get("qom-type", o.get("")) == "iothread")


def _stale_files(line: CommandLine, qemu: QemuFacts, restart: str) -> Iterator[Finding]:
    started = {str(o.get("node-name")): o.get("filename") for o in (b.properties() for b in line.named("blockdev"))}
    for node in qemu.nodes:
        filename = started.get(node.name)
        if isinstance(filename, str) and node.file != filename and node.driver in ("file", "host_device"):
            yield blocker(
                "changed",
                f"block node {node.name} now is {node.file}, the guest started with {filename}",
                restart,
            )


def _qemu(facts: DomainFacts) -> QemuFacts:
    assert facts.qemu is not None, "rules on running domains come with what their QEMU answered"
    return facts.qemu


ALWAYS: tuple[Rule, ...] = (_state, _emulator)
RUNNING: tuple[Rule, ...] = (
    _version,
    _memory,
    _jobs,
    _lock_manager,
    _blocked_reasons,
    _devices,
    _secrets,
    _stale_argv,
)
