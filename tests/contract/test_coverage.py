"""docs/coverage.md: which of the domains that other tools make can be moved, by their XML."""

from __future__ import annotations

from pathlib import Path

from tests.unit.support.generated import DOCS, check, table
from virtcpr.actions.check import check_document
from virtcpr.actions.prepare import prepare_document
from virtcpr.model import Finding, Mode, Severity

TOOLS = Path(__file__).parent / "tools"
PAGE = DOCS / "coverage.md"
# Every file, and what is special about the domain in it.
DOMAINS = {
    "virt-install-server": "virt-install 4.1, a server without a display",
    "virt-install-desktop": "virt-install 4.1 and virt-manager, a desktop: SPICE, two USB redirectors",
    "virt-install-uefi": "virt-install 4.1, the same with UEFI, and so a TPM",
    "virt-install-windows": "virt-install 4.1, Windows 11: UEFI, a TPM, Hyper-V enlightenments",
    "virt-install-virtiofs": "virt-install 4.1, a desktop with a shared directory (virtiofs)",
    "vagrant": "Vagrant (vagrant-libvirt), with a VNC websocket",
    "terraform": "Terraform (terraform-provider-libvirt): SPICE",
    "nova": "OpenStack (nova), a server with a local disk",
    "boxes": "GNOME Boxes: SPICE with OpenGL, a smartcard",
}


def verdict(name: str, mode: Mode, scratch: Path) -> str:
    """In words: ready, or the codes of what blocks it."""
    path = TOOLS / f"{name}.xml"
    prepared = prepare_document(str(path), mode, None, undo=False, dry_run=False)
    document = scratch / f"{name}.xml"
    document.write_text(prepared.document or path.read_text())
    (domain,) = check_document(str(document), mode).domains
    concerning = [finding for finding in (*prepared.domains[0].findings, *domain.findings) if mode in finding.modes]
    blockers = codes([finding for finding in concerning if finding.severity is Severity.BLOCKER])
    warnings = codes([finding for finding in concerning if finding.severity is Severity.WARNING])
    if blockers:
        assert mode not in domain.ready
        return f"refused: {blockers}"
    assert mode in domain.ready
    return f"ready; warning {warnings}" if warnings else "ready"


def codes(findings: list[Finding]) -> str:
    return ", ".join(sorted({f"`{finding.code}`" for finding in findings}))


def test_every_domain_is_on_the_page(tmp_path: Path) -> None:
    assert {path.stem for path in TOOLS.glob("*.xml")} == DOMAINS.keys()
    rows = [
        (what, verdict(name, Mode.TRANSFER, tmp_path), verdict(name, Mode.REBOOT, tmp_path))
        for name, what in DOMAINS.items()
    ]
    check(PAGE, {"coverage": table(("domain", "mode transfer", "mode reboot"), rows)})
