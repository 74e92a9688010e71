"""Domains whose XML a manager writes anew: prepare says so, and where its change belongs instead."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.support import facts
from virtcpr.model import Mode, Severity
from virtcpr.plan.findings.prepare_rules import preparing

NOVA = "<metadata><n:instance xmlns:n='http://openstack.org/xmlns/libvirt/nova/1.1'/></metadata>"
OVIRT = "<metadata><o:vm xmlns:o='http://ovirt.org/vm/1.0'/></metadata>"
KUBEVIRT = "<metadata><kubevirt xmlns='http://kubevirt.io'/></metadata>"
OPENNEBULA = "<metadata><one:vm xmlns:one='http://opennebula.org/xmlns/libvirt/1.0'/></metadata>"
CLOUDSTACK = "<sysinfo type='smbios'><system><entry name='product'>CloudStack KVM Hypervisor</entry></system></sysinfo>"


@pytest.mark.parametrize(
    ("manager", "mark", "where"),
    [
        ("OpenStack (nova)", NOVA, "live migration"),
        ("oVirt", OVIRT, "'qemu_cmdline'"),
        ("KubeVirt", KUBEVIRT, "hook sidecar"),
        ("OpenNebula", OPENNEBULA, "RAW = "),
        ("CloudStack", CLOUDSTACK, "'extraconfig-1'"),
    ],
)
@pytest.mark.parametrize("mode", [Mode.TRANSFER, Mode.REBOOT])
def test_what_a_manager_writes_anew_does_not_last(manager: str, mark: str, where: str, mode: Mode) -> None:
    domain = replace(facts.domain(), process=None, qemu=None, id=None, state="shut off")
    managed = replace(domain, xml=domain.xml.replace("<devices>", f"{mark}<devices>", 1))
    (finding,) = (f for f in preparing(managed, mode, "transfer", managed.xml) if f.code == "managed-xml")
    assert finding.severity is Severity.WARNING
    assert finding.message.startswith(f"{manager} manages the domain and writes its XML anew at its next start")
    assert where in finding.remedy


def test_the_metadata_of_others_is_no_reason() -> None:
    """virt-manager's, for example, or that of `virtcpr prepare` itself."""
    domain = replace(facts.domain(), process=None, qemu=None, id=None, state="shut off")
    mark = "<metadata><l:libosinfo xmlns:l='http://libosinfo.org/xmlns/libvirt/domain/1.0'/></metadata>"
    own = domain.xml.replace("<devices>", f"{mark}<devices>", 1)
    assert "managed-xml" not in {f.code for f in preparing(replace(domain, xml=own), Mode.TRANSFER, "transfer", own)}
