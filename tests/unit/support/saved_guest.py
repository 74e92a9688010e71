"""A guest that was saved, and its record."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from virtcpr.actions.reboot import disks
from virtcpr.actions.records import saves
from virtcpr.actions.records.saves import RamFile, Record, Saved
from virtcpr.host.files import ram_files
from virtcpr.host.qemu.stream import Digest
from virtcpr.plan.reboot.recovery import Purpose, Stage

UUID = "6b1a0f5e-0d0c-4d5a-9a5e-000000000001"
STATE = b"what QEMU wrote" * 1000


def a_record(directory: Path, stage: Stage = Stage.SAVED, **changes: Any) -> Record:
    """Written, with its state, a disk, and RAM in a file of its own."""
    disk, memory = directory / "disk.qcow2", directory / "pc.ram"
    for path in (disk, memory):
        path.write_bytes(b"x" * 100)
    xml = (
        f"<domain type='kvm'><name>web</name><os><type machine='pc-q35-10.0'>hvm</type></os><devices>"
        f"<emulator>/usr/bin/qemu</emulator><disk type='file'><source file='{disk}'/></disk></devices></domain>"
    )
    host, boot = saves.here()
    saved = Saved(
        name="web",
        uuid=UUID,
        purpose=Purpose.SAVE,
        stage=stage,
        xml=xml,
        taints=("custom-monitor",),
        runs=True,
        wake=False,
        sleeps=False,
        order=3,
        qemu="10.0.2",
        emulator=None,
        status_path=str(directory / "web.xml"),
        old_pid=1 << 22,
        old_started="1",
        host=host,
        boot=boot,
        saved_at=saves.now(),
        ignores_shared=True,
        ram=(RamFile(str(memory), str(memory), ram_files.identity(str(memory))),),
        state=Digest(len(STATE), hashlib.sha256(STATE).hexdigest()),
        images=disks.files(xml),
    )
    one = Record(replace(saved, **changes), directory / "saved")
    one.write(stage)
    one.state_path.write_bytes(STATE)
    return one
