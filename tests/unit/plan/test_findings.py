"""Every rule, by a real domain's facts with one thing changed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.support import facts
from virtcpr.domain.facts import BlockNode, Chardev, Device, DomainFacts, Emulator, HostFacts, Memdev
from virtcpr.domain.helpers.helper import Helper
from virtcpr.domain.live import LiveDomain
from virtcpr.domain.status import DisplayPassword
from virtcpr.model import Finding, Mode, Result, Severity
from virtcpr.plan.decision import decide
from virtcpr.plan.findings.rule import apply, blocks
from virtcpr.plan.findings.table import RULES

Change = Callable[[DomainFacts], DomainFacts]
T, L, R, X = Mode.TRANSFER, Mode.LIVE, Mode.REBOOT, Mode.EXEC
# What stands against the other modes for the recorded domain, whatever else is changed: QEMU 10.0 has no cpr-exec.
USUAL = {"emulator-exec", "qemu-old-exec", "sandbox"}


def findings(domain: DomainFacts) -> tuple[Finding, ...]:
    return tuple(finding for finding in apply(RULES, domain) if finding.code not in USUAL)


def qemu(**changes: Any) -> Change:
    def change(domain: DomainFacts) -> DomainFacts:
        assert domain.qemu is not None
        return replace(domain, qemu=replace(domain.qemu, **changes))

    return change


def process(**changes: Any) -> Change:
    def change(domain: DomainFacts) -> DomainFacts:
        assert domain.process is not None
        return replace(domain, process=replace(domain.process, **changes))

    return change


def xml(old: str, new: str) -> Change:
    def change(domain: DomainFacts) -> DomainFacts:
        assert old in domain.xml
        return replace(domain, xml=domain.xml.replace(old, new, 1))

    return change


def device(text: str) -> Change:
    return xml("</devices>", f"{text}</devices>")


def stopped(then: Change) -> Change:
    return lambda domain: then(replace(domain, process=None, qemu=None, state="shut off", id=None))


def argument(*words: str) -> Change:
    """QEMU was started with one more argument for each word."""

    def change(domain: DomainFacts) -> DomainFacts:
        assert domain.process is not None
        return process(argv=(*domain.process.argv, *words))(domain)

    return change


def node(driver: str) -> Change:
    """One of its images is by this driver."""

    def change(domain: DomainFacts) -> DomainFacts:
        assert domain.qemu is not None
        return qemu(nodes=(*domain.qemu.nodes[:-1], replace(domain.qemu.nodes[-1], driver=driver)))(domain)

    return change


def stored(old: str, new: str) -> Change:
    def change(domain: DomainFacts) -> DomainFacts:
        assert domain.persistent_xml is not None
        assert old in domain.persistent_xml
        return replace(domain, persistent_xml=domain.persistent_xml.replace(old, new, 1))

    return change


def status(old: str, new: str) -> Change:
    return lambda domain: replace(domain, status_xml=domain.status_xml.replace(old, new))


def emulator(**changes: Any) -> Change:
    return lambda domain: replace(domain, emulator=replace(domain.emulator, **changes))


KEY = "<encryption secret='b0a1b3c4-5d6e-4f70-8192-a3b4c5d6e7f8'/>"
SHARE = "<filesystem><driver type='virtiofs'/></filesystem>"
PASST = "<interface type='user'><backend type='passt'/></interface>"
EMULATED = "<tpm model='tpm-crb'><backend type='emulator'/></tpm>"


def helper(what: str, problem: str) -> Change:
    return process(helpers=(Helper(what, 0, "", (), "/run/x.sock", "/run/x.pid", problem=problem),))


def whole(**changes: Any) -> Change:
    return lambda domain: replace(domain, **changes)


def both(first: Change, second: Change) -> Change:
    return lambda domain: second(first(domain))


def file_ram(**changes: Any) -> Change:
    return qemu(
        memdevs=(
            Memdev(
                **{
                    "id": "pc.ram",
                    "share": True,
                    "kind": "memory-backend-file",
                    "path": "/ram/pc.ram",
                    "place": "file",
                    **changes,
                }
            ),
        )
    )


KVM = xml("<domain type='qemu'", "<domain type='kvm'")
SHARED = "<access mode='shared'/>"

# (code, in which modes, part of the message, what makes it)
CASES: tuple[tuple[str, tuple[Mode, ...], str, Change], ...] = (
    ("managed", (R,), "oVirt manages the domain",
     xml("<devices>", "<metadata><v:vm xmlns:v='http://ovirt.org/vm/1.0'/></metadata><devices>")),
    ("managed", (R,), "OpenStack (nova) manages the domain",
     xml("<devices>", "<metadata><n:x xmlns:n='http://openstack.org/xmlns/libvirt/nova/1.1'/></metadata><devices>")),
    ("managed", (R,), "KubeVirt manages the domain",
     xml("<devices>", "<metadata><kubevirt xmlns='http://kubevirt.io'/></metadata><devices>")),
    ("managed", (R,), "OpenNebula manages the domain",
     xml("<devices>", "<metadata><o:vm xmlns:o='http://opennebula.org/xmlns/libvirt/1.0'/></metadata><devices>")),
    ("not-running", (T, L, R, X), "the domain is shut off", stopped(whole())),
    ("waits-for-restore", (T, L, R, X), "the domain is saved",
     both(stopped(whole()), whole(state="saved", waits=True))),
    ("unreadable", (T, L, R, X), "QMP is deaf", both(stopped(whole()), whole(state="running", problem="QMP is deaf"))),
    ("paused", (T, L, R, X), "(I/O error)", whole(state="paused", reason="I/O error")),
    ("suspended", (T, L, X), "suspended to RAM", qemu(status="suspended")),
    ("suspended", (T, L, X), "suspended to RAM", whole(state="pmsuspended")),
    ("qemu-status", (T, L, R, X), "but in prelaunch", qemu(status="prelaunch")),
    ("state", (T, L, R, X), "the domain is crashed", whole(state="crashed")),
    ("machine-unversioned", (T, L, R, X), "type microvm has no version",
     xml("machine='pc-q35-10.0'", "machine='microvm'")),
    ("emulator", (T, L, R, X), "/usr/bin/qemu doesn't exist",
     whole(emulator=Emulator("/usr/bin/qemu", problem="doesn't exist"))),
    ("emulator-forbidden", (T, L, R, X), "run the emulator /usr/bin/qemu-system-x86_64 (AppArmor profile libvirtd)",
     emulator(forbidden_by="libvirtd")),
    ("emulator-confined", (T, L, R, X), "profile doesn't let it run the emulator",
     process(may_run=False, may_run_now=False)),
    ("selinux", (T, L, X), "doesn't let virtcpr start a QEMU with the guest's label u:r:svirt_t:s0:c1,c2",
     process(refused_label="u:r:svirt_t:s0:c1,c2")),
    ("emulator-confined", (T, L, X), "as it was loaded when it started", process(may_run_now=False)),
    ("emulator-arch", (T, L, R, X), "runs aarch64 guests, this guest is x86_64", emulator(target="aarch64")),
    ("emulator-cpr", (T, L), "can't do cpr-transfer", emulator(modes=frozenset({"normal", "cpr-reboot"}))),
    ("emulator-reboot", (R,), "can't do cpr-reboot", emulator(modes=frozenset({"normal"}))),
    ("machine-gone", (T, L, R, X), "has no machine type pc-q35-10.0", emulator(machines=frozenset({"pc-q35-99.0"}))),
    ("qemu-old", (T, L), "runs in QEMU 9.2.0, cpr-transfer needs 10.0", qemu(version="9.2.0", version_tuple=(9, 2, 0))),
    ("qemu-old-reboot", (R,), "cpr-reboot needs 8.2", qemu(version="8.1.0", version_tuple=(8, 1, 0))),
    ("qemu-untried", (R,), "runs in QEMU 8.2.2: mode reboot was run with QEMU 10.0 to 11.1 only",
     qemu(version="8.2.2", version_tuple=(8, 2, 2))),
    ("qemu-untried", (R,), "the emulator /usr/bin/qemu-system-x86_64 is QEMU 12.0.0",
     emulator(version="12.0.0", number=(12, 0, 0))),
    ("modules-gone", (T, L, R, X), "were replaced on disk", process(modules=False)),
    ("libraries", (T, L, R, X), "the old ones: /lib/a, /lib/b, /lib/c and 1 more",
     process(libraries=("/lib/a", "/lib/b", "/lib/c", "/lib/d"))),
    ("ram-private", (T, X), "RAM isn't shared (pc.ram)", qemu(memdevs=(Memdev("pc.ram", False),))),
    ("ram-private", (T, X), "no memory backend", qemu(memdevs=())),
    ("ram-private", (T, X), "won't be shared (main memory)", stopped(xml(SHARED, ""))),
    ("ram-directory", (T, X), "(/dev/hugepages)", file_ram(path="/dev/hugepages", place="directory")),
    ("ram-missing", (T, X, R), "/ram/pc.ram, which is gone", file_ram(place="missing")),
    ("aux-ram-share", (T, X), "runs without aux-ram-share=on", qemu(aux_ram_share=False)),
    ("aux-ram-share", (T, X), "will run without", stopped(xml("aux-ram-share=on", "aux-ram-share=off"))),
    ("ram-epc", (T, X), "SGX", qemu(memdevs=(Memdev("epc0", True, "memory-backend-epc"),))),
    ("confidential", (T, L, R, X), "encrypted (sev-snp-guest)", qemu(objects={"lsec0": "sev-snp-guest"})),
    ("confidential", (T, L, R, X), "encrypted guest", xml("<devices>", "<launchSecurity type='sev'/><devices>")),
    ("discard-data", (T, R), "pc.ram has discard-data=on", file_ram(discard=True)),
    ("host-memory", (L,), "of memory are available", whole(host=HostFacts(1000, {}))),
    ("host-memory", (L,), "20 MiB of hugepages",
     both(xml(SHARED, f"{SHARED}<hugepages/>"), whole(host=HostFacts(1 << 40, {2048: 10})))),
    ("memory-limit", (T,), "takes about 60 MiB of memory beside the guest's RAM, and the limits",
     process(own_memory=60 << 10, memory_room=40 << 10)),
    ("memory-limit", (L,), "needs the guest's RAM twice: about",
     process(own_memory=60 << 10, memory_room=40 << 10)),
    ("ram-file", (L,), "RAM pc.ram is in the file /ram/pc.ram, which isn't libvirt's own", file_ram()),
    ("ram-pages", (L,), "huge pages of several sizes", both(file_ram(place="directory", share=False), whole())),
    ("boot-rom", (L,), "its interfaces keep their boot ROMs (virtio) until its next start", qemu(aux_ram_share=False)),
    ("boot-rom", (T,), "its interfaces have boot ROMs (virtio) until its next start",
     stored("<model type='virtio'/>", "<model type='virtio'/><rom enabled='no'/>")),
    ("hugepages-apparmor", (L,), "which its AppArmor profile doesn't let QEMU make",
     both(xml(SHARED, f"{SHARED}<hugepages/>"), process(may_make_memfds=False))),
    ("ram-unnamed", (L,), "RAM has no memory backend", qemu(memdevs=(Memdev(None, False),))),
    ("cold-boot-pending", (T, X), "the persistent XML is prepared", qemu(aux_ram_share=False)),
    ("next-boot-unprepared", (T, X), "the persistent XML isn't", stored("aux-ram-share=on", "aux-ram-share=off")),
    ("next-boot-unprepared", (T, X), "the persistent XML isn't", stored(SHARED, "")),
    ("job", (T, L, R, X), "busy with the domain: a job", whole(busy="unbounded")),
    ("job", (T, L, R, X), "a block job", status("<blockjobs active='no'/>", "<blockjobs active='yes'/>")),
    ("job", (T, L, R, X), "a backup", status("<blockjobs ", "<backups><domainbackup/></backups><blockjobs ")),
    ("job", (T, L, R, X), "a reboot", status("<blockjobs ", "<fakereboot/><blockjobs ")),
    ("job", (T, L, R, X), "QEMU's job mirror0", qemu(jobs=("mirror0",))),
    ("session", (R,), "which mode reboot can't use", whole(session=True)),
    ("session", (L,), "mode live was never run with one", whole(session=True)),
    ("lock-manager", (T, L, X), "(sanlock)", whole(lock_manager="sanlock")),
    ("qemu-blocked", (T, L, R, X), "QEMU: non-migratable device: nvme",
     qemu(blocked_reasons=("non-migratable device: nvme",))),
    ("qemu-blocked-live", (L,), "The vmdk format",
     qemu(blocked_reasons=("The vmdk format used by node 'n1' does not support live migration",))),
    ("capability", (T, R, X), "postcopy-ram is on", qemu(capabilities=frozenset({"postcopy-ram"}))),
    ("capability", (T, R, X), "x-colo is on", qemu(capabilities=frozenset({"x-colo"}))),
    ("capability-stream", (T, L, R), "mapped-ram is on", qemu(capabilities=frozenset({"mapped-ram"}))),
    ("capability-stream", (T, L, R), "pause-before-switchover is on",
     qemu(capabilities=frozenset({"pause-before-switchover"}))),
    ("write-threshold", (X,), "block node n1",
     both(qemu(nodes=(BlockNode("n1", "/x", "qcow2", 4096),)), whole())),
    ("mode-left", (T, L, R, X), "mode is cpr-transfer", qemu(mode="cpr-transfer")),
    ("format", (L,), "can't be migrated",
     stopped(device("<disk type='file'><driver name='qemu' type='vmdk'/></disk>"))),
    ("vsock", (L, X), "vsock device", device("<vsock model='virtio'/>")),
    ("vsock-setting", (T,), "with settings", device("<vsock><driver packed='on'/></vsock>")),
    ("vsock-setting", (T,), "of a model", device("<vsock model='virtio-transitional'/>")),
    ("vsock-connections", (T,), "ends its vsock connections", device("<vsock model='virtio'/>")),
    ("hostdev", (T, L, X), "passthrough", device("<hostdev mode='subsystem' type='usb'/>")),
    ("hostdev", (L, X), "VFIO", device("<interface type='hostdev'/>")),
    ("hostdev-build", (T,), "the emulator /usr/bin/qemu-system-x86_64 (10.0.13", device("<hostdev type='pci'/>")),
    ("hostdev-build", (T,), "which it runs in,", both(emulator(vfio=True), device("<interface type='hostdev'/>"))),
    ("hostdev-setting", (T,), "with <rom>", device("<hostdev type='pci'><source/><rom bar='off'/></hostdev>")),
    ("hostdev-setting", (T,), "with <driver iommufd>",
     device("<hostdev type='pci'><source/><driver name='vfio' iommufd='yes'/></hostdev>")),
    ("hostdev-setting", (T,), "an IOMMU in the guest", device("<iommu model='intel'/><hostdev type='pci'/>")),
    ("hostdev-setting", (T,), "emulated CPUs", device("<hostdev type='pci'/>")),
    ("hostdev-moves", (T,), "emulated devices only", device("<hostdev type='pci'/>")),
    ("hostdev-awake", (R,), "isn't suspended", device("<hostdev mode='subsystem' type='pci'/>")),
    ("virtiofs", (T, L, X), "virtiofs",
     device("<filesystem><driver type='virtiofs'/><binary><cache mode='none'/></binary></filesystem>")),
    ("helpers", (X,), "never moved so", device(EMULATED)),
    ("helpers", (X,), "never moved so", device(SHARE)),
    ("virtiofs-files", (T, L), "by about 75 ms",
     process(helpers=(Helper("virtiofsd", 1, "1", (), "/run/x.sock", "/run/x.pid", files=3000),))),
    ("virtiofs-process", (T, L), "no such", both(device(SHARE), helper("virtiofsd", "no such"))),
    ("virtiofs-external", (T, L, R, X), "libvirt doesn't start",
     device("<filesystem><driver type='virtiofs'/><source socket='/run/fs.sock'/></filesystem>")),
    ("filesystem", (T, L, R, X), "9p", stopped(device("<filesystem type='mount'/>"))),
    ("tpm", (T, L, X), "encrypted", device(f"<tpm model='tpm-crb'><backend type='emulator'>{KEY}</backend></tpm>")),
    ("tpm-process", (T, L), "no such", both(device(EMULATED), helper("swtpm", "no such"))),
    ("tpm-external", (T, L, R, X), "libvirt doesn't start", device("<tpm><backend type='external'/></tpm>")),
    ("tpm-passthrough", (T, L, R, X), "host's TPM", device("<tpm><backend type='passthrough'/></tpm>")),
    ("redirdev", (T, L, X), "redirected", device("<redirdev bus='usb' type='tcp'/>")),
    ("smartcard", (T, L, X), "smartcard", device("<smartcard mode='host'/>")),
    ("shmem", (T, L, R, X), "ivshmem", device("<shmem name='x'/>")),
    ("shmem", (T, L, R, X), "ivshmem", device("<shmem name='x' role='master'><server/></shmem>")),
    ("crypto", (T, L, R, X), "crypto", device("<crypto model='virtio'/>")),
    ("sound", (T, L, R, X), "sound", device("<sound model='virtio'/>")),
    ("input-passthrough", (T, L, R, X), "input device", device("<input type='passthrough'/>")),
    ("input-evdev", (T, L, X), "evdev", device("<input type='evdev'/>")),
    ("iommu", (T, L, R, X), "AMD IOMMU", device("<iommu model='amd'/>")),
    ("spice", (T, L, X), "SPICE display with OpenGL", device("<graphics type='spice'><gl enable='yes'/></graphics>")),
    ("spice", (T, L, X), "in a place of its own",
     device("<graphics type='spice'><listen type='socket' socket='/run/spice.sock'/></graphics>")),
    ("redirdev-spice", (T, L), "USB devices of a SPICE client", device("<redirdev bus='usb' type='spicevmc'/>")),
    ("display", (T, L, X), "isn't VNC", device("<graphics type='dbus'/>")),
    ("virgl", (T, L, R, X), "virgl", device("<video><model><acceleration accel3d='yes'/></model></video>")),
    ("interface", (T, L, X), "of type 'vhostuser'", xml("<interface type='network'>", "<interface type='vhostuser'>")),
    ("interface-user", (T, L), "through net0, QEMU's user-mode network",
     xml("<interface type='network'>", "<interface type='user'>")),
    ("network-boot", (T,), "removed its interfaces' boot ROMs",
     xml("<qemu:arg value='-machine'/>", "<qemu:arg value='-global'/><qemu:arg value='e1000.romfile='/>"
         "</qemu:commandline><os><boot dev='network'/></os><qemu:commandline><qemu:arg value='-machine'/>")),
    ("interface-queues", (T, L), "macvtap interface with several queues",
     device("<interface type='direct'><driver queues='2'/></interface>")),
    ("interface-user", (T, L), "passt", device(PASST)),
    ("passt", (T, L, X), "settings that nothing was run with", device(PASST.replace("/>", "/><mtu/>"))),
    ("passt-process", (T, L), "no such", both(device(PASST), helper("passt", "no such"))),
    ("interface", (T, L, X), "(passt)", device("<interface type='network'><backend type='passt'/></interface>")),
    ("disk", (T, L, X), "NVMe", device("<disk type='nvme'/>")),
    ("iotune", (X,), "throttling", device("<disk type='file'><iotune/></disk>")),
    ("transient-disk", (T, L, R, X), "transient", device("<disk type='file'><transient/></disk>")),
    ("reservations", (T, L, X), "reservation", device("<disk><source><reservations/></source></disk>")),
    ("chardev-net", (T, L, X), "with TLS", device("<serial type='tcp'><source mode='bind' tls='yes'/></serial>")),
    ("iotune", (X,), "throttling", device("<disk type='file'><throttlefilters/></disk>")),
    ("chardev-client", (T, L, X), "a peer", device("<serial type='tcp'><source mode='connect'/></serial>")),
    ("chardev-client", (T, L, X), "a peer",
     device("<rng><backend model='egd' type='tcp'><source mode='connect'/></backend></rng>")),
    ("chardev-connected", (T, L), "the socket of serial1",
     qemu(chardevs=(*facts.qemu().chardevs, Chardev("charserial1", "tcp:127.0.0.1:7801,server=on <-> 127.0.0.1:9")))),
    ("chardev-client", (T, L, X), "a peer",
     device("<channel type='unix'><source mode='connect' path='/x'/></channel>")),
    ("vdagent", (T, L, R, X), "vdagent", stopped(device("<channel type='qemu-vdagent'/>"))),
    ("invtsc", (T, L, R, X), "(<feature name='invtsc'>)",
     stopped(both(KVM, xml("<devices>", "<cpu><feature name='invtsc' policy='require'/></cpu><devices>")))),
    ("not-yet-run", (T, L), "was never run with: -plugin, device nvme-ns, a character device of kind ringbuf",
     argument("-plugin", "x", "-device", "nvme-ns,id=n", "-chardev", "ringbuf,id=r")),
    ("not-yet-run", (T, L), "never run with: sound through pa", argument("-audiodev", '{"driver":"pa","id":"a"}')),
    ("not-yet-run", (T, L), "never run with: a display by dbus", argument("-display", "dbus,p2p=on")),
    ("not-yet-run", (T, L), "never run with: nbd with TLS",
     argument("-blockdev", '{"driver":"nbd","node-name":"n","tls-creds":"t"}')),
    ("not-yet-run", (T, L), "never run with: an image that libvirt opened (fdgroup)",
     argument("-blockdev", '{"driver":"file","node-name":"n","filename":"/dev/fdset/9"}')),
    ("not-yet-run", (T, L), "never run with: disks by rbd", node("rbd")),
    ("not-yet-run", (T, L), "never run with: disks by iscsi", node("iscsi")),
    ("not-yet-run", (T, L), "never run with: an object of kind can-bus",
     qemu(objects={**facts.qemu().objects, "c": "can-bus"})),
    ("not-yet-run", (T, L), "never run with: device usb-net",
     qemu(devices={**facts.qemu().devices, "u": Device("usb-net", attached=True)})),
    ("not-yet-run", (T, L), "never run with: guests of architecture s390x",
     both(qemu(target="s390x"), emulator(target="s390x"))),
    ("not-yet-run", (L,), "mode live was never run with: device virtio-9p-pci",
     qemu(devices={"fs0": Device("virtio-9p-pci", attached=True, settings={})})),
    ("not-yet-run", (T,), "never run with: disks by rbd",
     stopped(device("<disk type='network'><source protocol='rbd' name='a/b'/></disk>"))),
    ("not-yet-run", (T,), "never run with: disks by ploop",
     stopped(device("<disk type='file'><driver name='qemu' type='ploop'/></disk>"))),
    ("hostdev-s3", (R,), "<pm> switches that off",
     both(device("<hostdev mode='subsystem' type='pci'/>"),
          xml("<devices>", "<pm><suspend-to-mem enabled='no'/></pm><devices>"))),
    ("hv-passthrough", (T, L, R, X), "Hyper-V", both(KVM, xml("<features>", "<features><hyperv mode='passthrough'/>"))),
    ("argv", (T, L, X), "can't be understood", process(argv=("qemu", "stray"))),
    ("changed", (T, L, X), "devices were added or removed since the guest started: +late",
     qemu(devices={"late": Device("virtio-blk-pci")})),
    ("changed", (T, L, X), "-iothread1", qemu(iothreads=frozenset())),
    ("changed", (T, L, X), "interface net0 was replaced", xml("<mac address='52:", "<mac address='53:")),
)  # fmt: skip
# Needs another command line: below, and test_transfer.py; what a rehearsal shows: test_rehearsal.py; what mode reboot
# is asked for: test_reboot_plan.py.
ELSEWHERE = {
    "vnc-password",
    "spice-password",
    "resource",
    "parked",
    "parked-unsure",
    "descriptors",
    "long-pause",
    "long-blackout",
    "vetoed",
    "guest-vetoed",
    "not-kept",
    "sign",
    "sign-stays",
    "one-way",
    "rehearsal",
    "rehearsal-unsure",
    "refused-before",
    "agent",
    "ram-names",
    "room",
    "disk-untold",
}


@pytest.mark.parametrize(
    ("code", "modes", "message", "change"), CASES, ids=[f"{c}: {message}" for c, _, message, _ in CASES]
)
def test_rule(code: str, modes: tuple[Mode, ...], message: str, change: Change) -> None:
    all_findings = findings(change(facts.domain()))
    matching = [f for f in all_findings if f.code == code and message in f.message]
    assert matching, all_findings
    for finding in matching:
        assert finding.modes == modes
        assert finding.remedy
        assert finding.source
        assert all(blocks(all_findings, mode) for mode in modes) or finding.severity is not Severity.BLOCKER


@pytest.mark.parametrize(
    "more",
    [
        "<cpu mode='host-passthrough' migratable='off'/>",
        "<cpu mode='maximum' migratable='off'/>",
        "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:arg value='-cpu'/>"
        "<qemu:arg value='host,invtsc=on'/></qemu:commandline>",
    ],
)
def test_invtsc_of_the_next_boot(more: str) -> None:
    """QEMU itself says so of a running guest; a fixed frequency makes it movable."""
    change = both(KVM, xml("</devices>", f"</devices>{more}"))
    assert "invtsc" in {f.code for f in findings(stopped(change)(facts.domain()))}
    assert "invtsc" not in {f.code for f in findings(change(facts.domain()))}
    frequency = xml("<devices>", "<clock><timer name='tsc' frequency='1'/></clock><devices>")
    assert "invtsc" not in {f.code for f in findings(stopped(both(change, frequency))(facts.domain()))}


def test_vdagent_in_a_qemu_that_moves_it() -> None:
    change = stopped(both(device("<channel type='qemu-vdagent'/>"), emulator(version="10.2.1 (Debian)")))
    assert "vdagent" not in {f.code for f in findings(change(facts.domain()))}


def test_in_a_users_own_libvirt_no_remedy_sends_to_a_mode_that_it_lacks() -> None:
    encrypted = f"<tpm><backend type='emulator'>{KEY}</backend></tpm>"
    change = both(whole(session=True), both(device(encrypted), node("rbd")))
    found = {f.code: f.remedy for f in findings(change(facts.domain()))}
    assert {"session", "tpm", "not-yet-run"} <= found.keys()
    assert not any("--mode reboot" in remedy for remedy in found.values())
    assert found["tpm"].startswith("restart the guest instead ('virsh shutdown")
    assert "if something else blocks that, restart the guest" in found["session"]


@pytest.mark.parametrize("share", [False, True])
def test_ram_of_a_guest_that_is_not_prepared_has_its_own_finding(share: bool) -> None:
    """Shared, it would be another kind, which nobody has moved."""
    kind = "memory-backend-ram"
    known = qemu(objects={**facts.qemu().objects, "m": kind}, memdevs=(Memdev("m", share, kind),))
    started = argument("-object", f"{kind},id=m,size=1024")
    codes = {f.code for f in findings(both(known, started)(facts.domain()))}
    assert ("not-yet-run" in codes, "ram-private" in codes) == (share, not share)


def test_private_ram_is_not_counted_as_memory_that_new_qemu_takes() -> None:
    tight = both(process(own_memory=1 << 20, memory_room=1), qemu(memdevs=(Memdev("pc.ram", False),)))
    found = findings(tight(facts.domain()))
    assert "ram-private" in {f.code for f in found}
    assert [f.modes for f in found if f.code == "memory-limit"] == [(L,)]


def test_what_was_never_run_is_tried_if_asked() -> None:
    domain = argument("-audiodev", '{"driver":"pa","id":"a"}')(facts.domain())
    assert decide(domain).verdict is Result.BLOCKED
    trying = decide(domain, trying=True)
    assert trying.plan is not None
    assert [(f.code, f.severity) for f in trying.reasons(T)] == [("not-yet-run", Severity.WARNING)]


def test_every_rule_is_tried() -> None:
    assert {rule.code for rule in RULES} == {code for code, *_ in CASES} | ELSEWHERE | USUAL


def test_a_sound_domain_has_none() -> None:
    assert findings(facts.domain()) == ()


def test_monitors_are_no_change() -> None:
    """QEMU 11.1 lists them among the objects."""
    domain = facts.domain()
    assert domain.qemu is not None
    objects = {**domain.qemu.objects, "monitor": "monitor-qmp"}
    assert findings(replace(domain, qemu=replace(domain.qemu, objects=objects))) == ()


def test_what_stands_against_exec() -> None:
    by_code = {f.code: f for f in apply(RULES, facts.domain())}
    assert by_code.keys() == USUAL
    assert all(finding.modes == (X,) for finding in by_code.values())


def test_a_prepared_domain_that_is_off_is_only_off() -> None:
    assert [f.code for f in findings(stopped(whole())(facts.domain()))] == ["not-running"]


def test_a_saved_domain_is_never_said_to_start() -> None:
    """libvirt's hook refuses its start."""
    (finding,) = findings(both(stopped(whole()), whole(state="saved", waits=True))(facts.domain()))
    assert finding.remedy.startswith("'virtcpr restore d1' brings it back")
    assert "the next 'virsh start" not in finding.remedy


def test_offline_nothing_is_said_of_what_is_not_known() -> None:
    change = both(stopped(whole()), whole(offline=True, emulator=Emulator("/usr/bin/qemu"), state=""))
    assert findings(change(facts.domain())) == ()


def test_all_are_reported() -> None:
    bad = qemu(aux_ram_share=False, memdevs=(), version_tuple=(9, 0, 0))(facts.domain())
    assert {"aux-ram-share", "ram-private", "qemu-old"} <= {f.code for f in findings(bad)}


@pytest.mark.parametrize(
    ("kind", "option"), [("vnc", ("-vnc", "127.0.0.1:1,password=on")), ("spice", ("-spice", "port=5950"))]
)
def test_a_password_that_libvirt_does_not_know(kind: str, option: tuple[str, str]) -> None:
    domain = facts.domain()
    assert domain.process is not None
    given = process(argv=(*domain.process.argv, *option))(domain)
    (finding,) = findings(given)
    assert finding.code == f"{kind}-password"
    assert findings(replace(given, display_passwords={kind: DisplayPassword("sesame")})) == ()


def test_an_image_that_the_guest_no_longer_uses_blocks() -> None:
    domain = facts.domain()
    assert domain.qemu is not None
    nodes = tuple(replace(n, file="/elsewhere.iso") if n.name == "libvirt-1-storage" else n for n in domain.qemu.nodes)
    (finding,) = findings(qemu(nodes=nodes)(domain))
    assert finding.code == "changed"
    assert "libvirt-1-storage is /elsewhere.iso, but libvirt's record names another file" in finding.message


@pytest.mark.parametrize("broken", [qemu(mode="cpr-transfer"), file_ram(discard=True)])
def test_a_warning_does_not_block(broken: Change) -> None:
    decision = decide(broken(facts.domain()))
    assert decision.plan is not None
    assert [f.severity for f in decision.reasons(T)] == [Severity.WARNING]


def test_a_host_device_that_both_builds_know_moves() -> None:
    known = both(both(emulator(vfio=True), qemu(vfio=True)), KVM)
    with_one = both(known, device("<hostdev type='pci'><source/><alias name='hostdev0'/><address/></hostdev>"))
    found = findings(with_one(facts.domain()))
    assert not blocks(found, T)
    assert {finding.code for finding in found if T in finding.modes} == {"hostdev-moves"}


def test_a_host_device_of_a_suspended_guest_may_reboot() -> None:
    asleep = both(device("<hostdev type='pci'/>"), both(whole(state="pmsuspended"), qemu(status="suspended")))
    assert not blocks(findings(asleep(facts.domain())), R)


def test_reasons_of_another_mode_are_not_taken_for_those_of_every_mode() -> None:
    reasons = ("Memory region pc.bios is not compatible with CPR", "non-migratable device: nvme")
    all_findings = findings(qemu(mode="cpr-transfer", blocked_reasons=reasons)(facts.domain()))
    assert [f.message for f in all_findings if f.code == "qemu-blocked"] == ["QEMU: non-migratable device: nvme"]
    assert "mode-left" in {f.code for f in all_findings}


@pytest.mark.parametrize("machine", ["pc-q35-noble", "pc-i440fx-jammy-hpb", "pc-q35-rhel9.4.0", "s390-ccw-virtio-9.0"])
def test_a_version_can_have_a_name(machine: str) -> None:
    all_findings = findings(xml("machine='pc-q35-10.0'", f"machine='{machine}'")(facts.domain()))
    assert "machine-unversioned" not in {f.code for f in all_findings}


def test_one_queue_is_one_queue() -> None:
    assert findings(device("<interface type='network'><driver queues='1'/></interface>")(facts.domain())) == ()


def test_what_cannot_be_understood_is_that_domains_own_finding() -> None:
    decision = decide(
        stored("<memoryBacking>", "<memoryBacking><hugepages><page size='x'/></hugepages>")(facts.domain())
    )
    assert decision.verdict is not None or decision.plan
    broken = decide(xml("<memory unit='KiB'>", "<memory unit='KiB'>x")(facts.domain()))
    assert [f.code for f in broken.findings] == ["unreadable"]
    assert "isn't an amount of memory" in broken.findings[0].message


def test_remedies_can_be_pasted() -> None:
    odd = whole(name="a; reboot {x}")(qemu(aux_ram_share=False, capabilities=frozenset({"x-colo"}))(facts.domain()))
    odd = replace(odd, persistent_xml=None)
    remedies = {f.code: f.remedy for f in findings(odd)}
    assert "virtcpr prepare 'a; reboot {x}'" in remedies["aux-ram-share"]
    words = shlex.split(remedies["capability"])
    assert words[:3] == ["virsh", "qemu-monitor-command", "a; reboot {x}"]
    assert json.loads(words[3])["arguments"]["capabilities"] == [{"capability": "x-colo", "state": False}]


RAM = (
    "<domain type='kvm'><memoryBacking><source type='{}'/>{}</memoryBacking><cpu><numa>{}</numa></cpu>"
    "<devices>{}</devices></domain>"
)
CELL = "<cell id='0' memAccess='shared'/>"


@pytest.mark.parametrize(
    ("source", "access", "cell", "memory", "private"),
    [
        ("memfd", SHARED, "", "<memory model='nvdimm' access='private'/>", ("nvdimm 0",)),
        ("memfd", SHARED, "", "<memory model='sgx-epc'/>", ("sgx-epc 0",)),
        ("memfd", SHARED, "", "<memory model='virtio-pmem'/>", ()),
        ("memfd", "", CELL, "<memory model='dimm'><target><node>0</node></target></memory>", ()),
        (
            "memfd",
            "",
            CELL,
            "<memory model='dimm' access='private'><target><node>0</node></target></memory>",
            ("dimm 0",),
        ),
        (
            "file",
            SHARED,
            "",
            "<memory model='dimm'><source><pagesize>2048</pagesize></source></memory>",
            ("hugepages that aren't a memfd",),
        ),
        ("file", SHARED, "", "<memory model='dimm'/>", ()),
        ("memfd", "", "<cell id='0'/>", "", ("NUMA cell 0",)),
    ],
)
def test_ram_of_the_next_boot(source: str, access: str, cell: str, memory: str, private: tuple[str, ...]) -> None:
    assert LiveDomain.of(RAM.format(source, access, cell, memory)).private_ram() == private


def test_the_same_facts_lead_to_one_decision() -> None:
    sound = decide(facts.domain())
    assert (sound.verdict, sound.current) == (None, False)
    assert decide(emulator(build=facts.process().build)(facts.domain())).current
    blocked = decide(qemu(aux_ram_share=False)(facts.domain()))
    assert blocked.plan is None
    assert (blocked.blocked(T), blocked.blocked(L)) == (True, False)


def test_a_resource_that_cannot_be_identified_blocks() -> None:
    decision = decide(process(listeners={})(facts.domain()))
    assert decision.plan is None
    assert [f.code for f in decision.reasons(T)] == ["resource"]
