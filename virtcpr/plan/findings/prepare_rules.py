"""Which domains can be prepared for a mode by editing their XML, and what still blocks them afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from virtcpr.domain.edit.prepare import templates
from virtcpr.domain.edit.record import of_mode
from virtcpr.domain.facts import DomainFacts
from virtcpr.domain.live import HUGEPAGES
from virtcpr.model import Finding, Mode, Severity
from virtcpr.plan.findings import memory
from virtcpr.plan.findings.devices import has
from virtcpr.plan.findings.ram_devices import RAM_DEVICES
from virtcpr.plan.findings.rule import Hit, Needs, Rule, Subject, Test, apply, concerning
from virtcpr.plan.findings.table import DEVICES, EMULATORS, RULES

ALL = tuple(Mode)
PREPARED = (Mode.TRANSFER, Mode.REBOOT)  # the modes that have a template


def _transient(subject: Subject) -> Iterator[Hit]:
    if subject.facts.persistent_xml is None:
        yield {}


def _saved(subject: Subject) -> Iterator[Hit]:
    if subject.facts.saved:
        yield {}


def _merged(subject: Subject) -> Iterator[Hit]:
    host = subject.facts.host
    if host is not None and host.ksm and not subject.live.matches("memoryBacking/nosharepages"):
        yield {}


def _told_of_several(subject: Subject) -> Iterator[Hit]:
    """Found by code that knows more than the domain's own XML."""
    return iter(())


# Managers write a domain's XML anew for each start (LiveDomain.manager): where what a template ensures belongs instead.
INSTEAD: Mapping[str, str] = {
    "OpenStack (nova)": "nova has no setting for QEMU's arguments: move its guests by live migration",
    "oVirt": "set it in the engine: shared memory, and the custom property 'qemu_cmdline' (vdsm-hook-qemucmdline)",
    "KubeVirt": "set it in a hook sidecar of the VirtualMachine (onDefineDomain), or move its guests by live migration",
    "OpenNebula": 'set it in the VM template: RAW = [ TYPE = "kvm", DATA = "…" ]',
    "CloudStack": "set it in the instance's 'extraconfig-1', which enable.additional.vm.configuration must allow",
}


def _managed(subject: Subject) -> Iterator[Hit]:
    if manager := subject.live.manager:
        yield {"manager": manager, "where": INSTEAD.get(manager, "set it where that manager has its settings")}


# These check the XML after the edit.


def _on_one_backend(xpath: str) -> Test:
    """Domains with RAM on a backend from QEMU's arguments, and an element that matches the path."""

    def test(subject: Subject) -> Iterator[Hit]:
        backend = subject.live.ram_backend()
        if backend is not None and subject.live.matches(xpath):
            yield {"backend": backend}

    return test


def _roms(subject: Subject) -> Iterator[Hit]:
    models = sorted(subject.live.boot_roms())
    if models:
        yield {"models": ", ".join(models)}


def _nameless(subject: Subject) -> Iterator[Hit]:
    if subject.live.ram_backend() is None and subject.live.matches(HUGEPAGES):
        yield {}


# fmt: off
OTHER_TEMPLATE = Rule(
    "other-template", PREPARED, Needs.DOCUMENT, _told_of_several,
    "the domain is prepared by another template of this mode ({templates}), and its changes would stay",
    "undo it first: 'virtcpr prepare --undo {name}'", "virtcpr/domain/edit/record.py",
)
FILE_TAKEN = Rule(
    "ram-file-taken", PREPARED, Needs.LIBVIRT, _told_of_several,
    "its RAM would be in {path}, which holds the RAM of domain {other}: the two would overwrite each other",
    "give each domain a file of its own, by its own template (docs/xml-templates.md)", "QEMU backends/hostmem-file.c",
)
PREPARING: tuple[Rule, ...] = (
    Rule("transient", ALL, Needs.LIBVIRT, _transient, "the domain is transient: it has no persistent XML",
         "define it first: '(umask 077; virsh dumpxml {name} --inactive --security-info > domain.xml)', "
         "'virsh define domain.xml'",
         "libvirt virDomainIsPersistent()"),
    Rule("nvdimm-private", PREPARED, Needs.DOCUMENT,
         has("devices/memory[@model='nvdimm'][not(@access='shared')]"),
         "the domain has an NVDIMM that isn't shared: shared RAM would let the guest write to the file behind it",
         "if the guest may write to the file, give the NVDIMM access='shared'",
         "libvirt qemuBuildMemoryBackendProps()"),
    Rule("sgx", (Mode.TRANSFER,), Needs.DOCUMENT, has("devices/memory[@model='sgx-epc']"),
         "the domain has SGX enclave memory, which can't be handed over", "remove it from the domain",
         "QEMU backends/hostmem-epc.c"),
    Rule("ksm", PREPARED, Needs.LIBVIRT, _merged,
         "this host merges equal pages of its guests (KSM), but never shared RAM: the guest will need more "
         "memory",
         "make sure that the host has it before you start the domain", "Linux mm/ksm.c vma_ksm_compatible()",
         Severity.WARNING),
    Rule("managed-save", ALL, Needs.LIBVIRT, _saved,
         "the domain has a managed save: the next start restores it, with the XML of that time",
         "start it and shut it down once more, or 'virsh managedsave-remove {name}'",
         "libvirt virDomainHasManagedSaveImage()", Severity.WARNING),
    Rule("managed-xml", PREPARED, Needs.DOCUMENT, _managed,
         "{manager} manages the domain and writes its XML anew at its next start: what 'prepare' changes won't last",
         "{where}", "virtcpr/plan/findings/prepare_rules.py", Severity.WARNING),
    OTHER_TEMPLATE,
    FILE_TAKEN,
)
EDITED: tuple[Rule, ...] = (
    Rule("interface-rom", (Mode.TRANSFER,), Needs.DOCUMENT, _roms,
         "its interfaces keep their boot ROMs ({models}): with aux-ram-share, QEMU loses track of a detached "
         "interface's ROM; another interface in the same slot can then overwrite a disk image of the guest, or end it",
         "until the guest is restarted, attach no interface in the slot of a detached one; or give <rom enabled='no'/> "
         "to interfaces that the guest doesn't boot from",
         "QEMU system/physmem.c qemu_ram_free(), cpr_name()", Severity.WARNING),
    Rule("ram-backend-cells", PREPARED, Needs.DOCUMENT, _on_one_backend("cpu/numa/cell"),
         "all RAM would be on one backend ({backend}), but each NUMA cell of the domain has its own: QEMU refuses "
         "to start with both",
         "use another template, or remove the cells from the domain ('virsh edit {name}')",
         "QEMU hw/core/numa.c numa_complete_configuration()"),
    Rule("ram-backend-twice", PREPARED, Needs.DOCUMENT,
         _on_one_backend("memoryBacking/hugepages | memoryBacking/locked | memoryBacking/allocation"
                         "[@mode='immediate']"),
         "all RAM will be on one backend ({backend}), but libvirt's own backend will take memory, too: it is in huge "
         "pages, allocated at once or locked",
         "remove <hugepages>, <allocation> and <locked> from <memoryBacking> ('virsh edit {name}')",
         "libvirt qemuBuildMemoryBackendProps()", Severity.WARNING),
    Rule("ram-nameless", (Mode.REBOOT,), Needs.DOCUMENT, _nameless,
         "RAM in huge pages is in a file without a name, and can't stay in place: it goes to the state file",
         "nothing, if the disk has room for it; or remove the huge pages from the domain ('virsh edit {name}'), "
         "then prepare it", "QEMU backends/hostmem-file.c; migration/ram.c migrate_ram_is_ignored()",
         Severity.WARNING),
    Rule("hugepages-apparmor", (Mode.TRANSFER,), Needs.LIBVIRT, memory.confined_memfd,
         "its RAM would be in memfds of huge pages, which AppArmor lets no QEMU make: the domain couldn't be started",
         "put into /etc/apparmor.d/local/abstractions/libvirt-qemu the line '{line}'",
         "QEMU backends/hostmem-memfd.c; Linux security/apparmor/lsm.c apparmor_path_truncate()"),
    *RAM_DEVICES,
)
# fmt: on

# Findings that make the edit useless: an unsuitable emulator, an encrypted guest.
DECISIVE = frozenset({"emulator", "emulator-cpr", "emulator-reboot", "confidential"})


def preparing(facts: DomainFacts, mode: Mode, template: str, edited: str) -> tuple[Finding, ...]:
    """The findings about preparing a domain; findings that will still block a move are warnings.

    ``facts`` are of the persistent XML, as of a domain that doesn't run; ``edited`` is the XML after the template of
    that name was applied.  Raises ParseError.
    """
    own = concerning((*apply(PREPARING, facts), *apply(EDITED, replace(facts, xml=edited))), mode)
    others = [name for name in templates(facts.xml) if of_mode(name, mode.value) and name != template]
    if others:
        own = (*own, OTHER_TEMPLATE.finding(facts.name, {"templates": ", ".join(others)}))
    moving = concerning(apply((*EMULATORS, *DEVICES, *CONFIDENTIAL), facts), mode)
    return (*own, *(f if f.code in DECISIVE else replace(f, severity=Severity.WARNING) for f in moving))


CONFIDENTIAL = tuple(rule for rule in RULES if rule.code == "confidential")
