"""Desktops: as virt-install and virt-manager make them, and with all at once that mode transfer carries."""

from __future__ import annotations

from typing import Any

from tests.lab.support import served
from tests.lab.support.provoke import Guest
from tests.lab.support.served import SHARES, TPM

MEMORY_MIB = 384
SPICE, VNC, WEBSOCKET = 5950, 5942, 5742
REDIRECTOR = "<redirdev bus='usb' type='spicevmc'/>"
DESKTOP = f"""
<controller type='usb' model='qemu-xhci' ports='15'/>
<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>
<channel type='spiceport'>
  <source channel='org.spice-space.webdav.0'/><target type='virtio' name='org.spice-space.webdav.0'/>
</channel>
<graphics type='spice' port='{SPICE}' autoport='no' listen='127.0.0.1'><image compression='off'/></graphics>
<sound model='ich9'/>
<video><model type='qxl'/></video>
{REDIRECTOR}
{REDIRECTOR}
"""
WEBSOCKETS = f"<graphics type='vnc' port='{VNC}' websocket='{WEBSOCKET}' listen='127.0.0.1'/>"


def made(**different: Any) -> Guest:
    """A guest with all of it, and UEFI for Secure Boot, a TPM and two shared directories."""
    return served.made(
        tpm=TPM, shares=SHARES, devices=DESKTOP + WEBSOCKETS, firmware="secboot", memory_mib=MEMORY_MIB, **different
    )
