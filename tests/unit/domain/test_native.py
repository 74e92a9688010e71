"""What libvirt would start, as it said it in the lab."""

from __future__ import annotations

import pytest

from virtcpr.domain import native
from virtcpr.errors import ParseError

TEXT = """LC_ALL=C PATH=/usr/bin HOME=/var/lib/libvirt/qemu/domain--1-office \\
/usr/bin/qemu-system-x86_64 \\
-name guest=office,debug-threads=on \\
-blockdev '{"driver":"file","filename":"/usr/share/OVMF/OVMF_CODE_4M.fd","node-name":"libvirt-pflash0-storage"}' \\
-blockdev '{"node-name":"libvirt-pflash0-format","read-only":true,"driver":"raw","file":"libvirt-pflash0-storage"}' \\
-blockdev '{"driver":"file","filename":"/nvram/office_VARS.fd","node-name":"libvirt-pflash1-storage"}' \\
-machine pc-q35-10.0,pflash0=libvirt-pflash0-format,pflash1=libvirt-pflash1-storage \\
-append 'console=ttyS0 quiet' \\
-blockdev '{"driver":"file","filename":"/images/a b.qcow2","node-name":"libvirt-1-storage"}' \\
-blockdev '{"node-name":"libvirt-1-format","driver":"qcow2","file":"libvirt-1-storage"}' \\
-S
"""
SIZES = {"/usr/share/OVMF/OVMF_CODE_4M.fd": 3653632}
CAPABILITIES = """<capabilities><host>
  <secmodel><model>none</model><doi>0</doi></secmodel>
  <secmodel><model>dac</model><doi>0</doi>
    <baselabel type='kvm'>+64055:+994</baselabel><baselabel type='qemu'>+64055:+64055</baselabel>
  </secmodel></host></capabilities>"""


def test_its_command_line() -> None:
    line = native.command_line(TEXT)
    assert line.emulator == "/usr/bin/qemu-system-x86_64"
    assert [option.name for option in line.options][-1] == "S"
    assert [option.value for option in line.named("append")] == ["console=ttyS0 quiet"]
    assert list(line.named("blockdev"))[3].properties()["filename"] == "/images/a b.qcow2"


@pytest.mark.parametrize("text", ["", "LC_ALL=C", "/usr/bin/qemu 'open", "/usr/bin/qemu stray"])
def test_what_is_no_command_line(text: str) -> None:
    with pytest.raises(ParseError):
        native.command_line(text)


def test_images_are_blank_and_firmware_is_as_large_as_it_is() -> None:
    """Firmware whose file isn't made yet has no size: there is no twin then."""
    sizes = {node.name: node.size for node in native.images(native.command_line(TEXT), SIZES.get)}
    assert sizes == {
        "libvirt-pflash0-storage": 3653632,
        "libvirt-pflash0-format": 3653632,
        "libvirt-pflash1-storage": None,
        "libvirt-1-storage": native.SIZE,
        "libvirt-1-format": native.SIZE,
    }


def test_its_user() -> None:
    assert native.owner(CAPABILITIES, "kvm") == (64055, 994)
    assert native.owner(CAPABILITIES, "qemu") == (64055, 64055)
    assert native.owner(CAPABILITIES, "xen") is None
    assert native.owner("<capabilities/>", "kvm") is None
