"""AppArmor's rules as every guest's profile has them, and the kernel's word on a loaded profile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from virtcpr.host.processes.proc import Process
from virtcpr.host.system import apparmor
from virtcpr.plan.findings.memory import MEMFD_LINE

Local = Callable[[str], object]


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Local:
    """Write what the administrator adds to the profile of every guest."""
    path = tmp_path / "local/abstractions/libvirt-qemu"
    path.parent.mkdir(parents=True)
    monkeypatch.setattr(apparmor, "PROFILES", tmp_path)
    return path.write_text


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ("  /dev/dax0.0 rw,", True),
        ("/dev/dax* rw,  # all of them", True),
        ("/dev/** rwk,", True),
        ('owner "/dev/dax[0-9].0" rw,', True),
        ("/dev/{dax0.0,kvm} rw,", True),
        ("/dev/dax?.? rw,", True),
        ("/dev/dax0.0 r,", False),
        ("# /dev/dax0.0 rw,", False),
        ("deny /dev/dax0.0 rw,", False),
        ("/dev/dax0x0 rw,", False),
        ("/* rw,", False),
        ("/dev/[ rw,", False),
    ],
)
def test_a_rule(local: Local, rule: str, allowed: bool) -> None:
    local(f"/dev/kvm rw,\n{rule}\n")
    assert apparmor.lets_guests_open("/dev/dax0.0") is allowed


@pytest.mark.parametrize(
    ("rule", "may"),
    [("/usr/bin/qemu-system-* rmix,", True), ("/usr/bin/qemu* PUx,", True), ("/usr/bin/qemu-system-x86_64 rm,", False)],
)
def test_a_rule_for_a_program(local: Local, rule: str, may: bool) -> None:
    local(f"{rule}\n")
    assert apparmor.lets_guests_run("/usr/bin/qemu-system-x86_64") is may


@pytest.mark.parametrize(
    ("label", "profile"),
    [("libvirtd (enforce)\n", "libvirtd"), ("libvirtd (complain)\n", None), ("unconfined\n", None), (None, None)],
)
def test_the_profile_of_a_process(tmp_path: Path, label: str | None, profile: str | None) -> None:
    if label is not None:
        (tmp_path / "attr/apparmor").mkdir(parents=True)
        (tmp_path / "attr/apparmor/current").write_text(label)

    class Confined(Process):
        path = tmp_path

    assert apparmor.profile_of(Confined(1, "1")) == profile


def test_a_kernel_without_apparmor_forbids_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apparmor, "ACCESS", tmp_path / "gone")
    assert not apparmor.forbids("libvirtd", "/usr/bin/qemu-system-x86_64")


def test_a_line_for_memfds_of_huge_pages(local: Local) -> None:
    """To AppArmor they are files of their owner's that are named "/"."""
    local("/ r,\n/* rw,\n/** rw,\n")
    assert not apparmor.lets_guests_open(apparmor.MEMFD)
    local(f"{MEMFD_LINE}\n")
    assert apparmor.lets_guests_open(apparmor.MEMFD)
