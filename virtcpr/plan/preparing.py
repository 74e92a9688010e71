"""Which domains can be made ready for a mode by editing their XML, and what the edit leaves in the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from virtcpr.domain.facts import DomainFacts
from virtcpr.model import Finding, Mode, Severity
from virtcpr.plan.conditions.devices import has
from virtcpr.plan.findings import Hit, Needs, Rule, Subject, apply, concerning
from virtcpr.plan.rules import DEVICES, EMULATORS, RULES

ALL = tuple(Mode)


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


# fmt: off
PREPARING: tuple[Rule, ...] = (
    Rule("transient", ALL, Needs.LIBVIRT, _transient, "the domain is transient: it has no persistent XML",
         "define it first: '(umask 077; virsh dumpxml {name} --inactive --security-info > domain.xml)', "
         "'virsh define domain.xml'",
         "libvirt virDomainIsPersistent()"),
    Rule("nvdimm-private", (Mode.TRANSFER,), Needs.DOCUMENT,
         has("devices/memory[@model='nvdimm'][not(@access='shared')]"),
         "the domain has an NVDIMM that isn't shared: shared RAM would let the guest write to the file behind it",
         "decide by giving it access='shared', where the guest may write to the file",
         "libvirt qemuBuildMemoryBackendProps()"),
    Rule("sgx", (Mode.TRANSFER,), Needs.DOCUMENT, has("devices/memory[@model='sgx-epc']"),
         "the domain has SGX enclave memory, which can't be handed over", "take it out of the domain",
         "QEMU backends/hostmem-epc.c"),
    Rule("ksm", (Mode.TRANSFER,), Needs.LIBVIRT, _merged,
         "this host merges equal pages of its guests (KSM), and shared RAM is never merged: the guest will need more "
         "memory",
         "see that the host has it, before the domain is started", "Linux mm/ksm.c vma_ksm_compatible()",
         Severity.WARNING),
    Rule("managed-save", ALL, Needs.LIBVIRT, _saved,
         "the domain has a managed save: the next start takes that up, with the XML of then",
         "start it and shut it down once more, or 'virsh managedsave-remove {name}'",
         "libvirt virDomainHasManagedSaveImage()", Severity.WARNING),
)
# fmt: on

# What says that a domain can't use what would be written into it: the emulator, an encrypted guest.
DECISIVE = frozenset({"emulator", "emulator-cpr", "confidential"})


def preparing(facts: DomainFacts, mode: Mode) -> tuple[Finding, ...]:
    """What stands against preparing a domain, and as warnings what will stand against moving it even so.

    ``facts`` are of the persistent XML, as of a domain that doesn't run.  Raises ParseError.
    """
    own = concerning(apply(PREPARING, facts), mode)
    moving = concerning(apply((*EMULATORS, *DEVICES, *CONFIDENTIAL), facts), mode)
    return (*own, *(f if f.code in DECISIVE else replace(f, severity=Severity.WARNING) for f in moving))


CONFIDENTIAL = tuple(rule for rule in RULES if rule.code == "confidential")
