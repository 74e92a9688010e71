"""The emulator of the lab, and another build of the same release beside it."""

from __future__ import annotations

EMULATOR = "/usr/bin/qemu-system-x86_64"
REBUILT = f"{EMULATOR}-rebuilt"
# Another build of the same release: the build id is all that differs.
REBUILD = f"""
import shutil, re
shutil.copy({EMULATOR!r}, {REBUILT!r})
with open({REBUILT!r}, "r+b") as file:
    start = file.read(1 << 16).index(b"\\x04\\0\\0\\0\\x14\\0\\0\\0\\x03\\0\\0\\0GNU\\0")
    file.seek(start + 16)
    file.write(b"rebuilt")
"""

UNITS = "libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service"
# libvirtd 11.3 sometimes hangs in its own shutdown, and systemd calls it failed then: tests tell active from inactive.
STOP_DAEMON = f"systemctl stop {UNITS}; systemctl reset-failed {UNITS}"
