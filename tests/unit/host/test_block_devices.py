"""Block devices: who they are, and what is read of them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtcpr.actions.reboot import disks
from virtcpr.errors import HostError
from virtcpr.host.files import block_devices
from virtcpr.host.files.block_devices import Block, Content


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 10000])
def test_any_bytes_of_it_can_be_read(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "disk").write_bytes(data)
    with Content(str(tmp_path / "disk")) as content:
        assert content.size == size
        for offset, length in ((0, 512), (0, 5000), (1024, 1024), (4090, 10), (9990, 100), (20000, 10)):
            assert content.read(offset, length) == data[offset : offset + length]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "none")
    for action in (Content, block_devices.serial):
        with pytest.raises(HostError, match=f"{path} can't be (read|looked at): No such file or directory"):
            action(path)
    assert not block_devices.is_block(path)
    assert not block_devices.is_block(str(tmp_path))


@pytest.mark.parametrize(
    ("files", "known"),
    [
        ({}, ""),
        ({"wwid": "naa.5000"}, "wwid naa.5000"),
        ({"dm/uuid": "LVM-abc\n", "wwid": "other"}, "dm/uuid LVM-abc"),
        ({"device/serial": "S4X  "}, "device/serial S4X"),
        ({"partition": "2", "../wwid": "naa.5000"}, "wwid naa.5000 2"),
        ({"partition": "2"}, ""),
    ],
)
def test_who_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], known: str) -> None:
    device = tmp_path / "disk/part"
    for name, text in files.items():
        (device / name).parent.mkdir(parents=True, exist_ok=True)
        device.mkdir(parents=True, exist_ok=True)
        (device / name).write_text(text)
    device.mkdir(parents=True, exist_ok=True)
    (tmp_path / "1:3").symlink_to(device)
    monkeypatch.setattr(block_devices, "SYSFS", tmp_path)
    assert block_devices.serial("/dev/null") == known  # device 1:3


@pytest.mark.parametrize(
    ("now", "another"),
    [
        (Block(1, "a", "x", True), False),
        (Block(1, "a", "y", False), False),
        (Block(1, "", "x", True), False),
        (Block(1, "b", "x", True), True),
        (Block(2, "a", "x", True), True),
    ],
)
def test_another_device_of_the_same_name(now: Block, another: bool) -> None:
    assert Block(1, "a", "x", True).is_another(now) == another


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[str]:
    """A loop device with a real ext4 on it."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    try:
        subprocess.run(["mkfs.ext4", "-q", image], check=True, capture_output=True)
        made = subprocess.run(["losetup", "-f", "--show", image], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no loop device with ext4 can be had here: {error}")
    yield made.stdout.strip()
    subprocess.run(["losetup", "-d", made.stdout.strip()], check=True)


def test_a_mount_of_ext4_is_seen(loop: str, tmp_path: Path) -> None:
    """Run for real: it is what a restore relies on."""
    xml = f"<domain><devices><disk type='block'><source dev='{loop}'/></disk></devices></domain>"
    before = disks.blocks(xml)
    assert (before[loop].sound, before[loop].serial) == (True, f"loop/backing_file {tmp_path}/image")
    assert (disks.files(xml), disks.untold(xml, {}, before), list(disks.changes(xml, {}, before))) == ({}, (), [])
    script = f"mkdir {tmp_path}/on && mount {loop} {tmp_path}/on && umount {tmp_path}/on"
    if subprocess.run(["unshare", "-m", "sh", "-c", script], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    assert list(disks.changes(xml, {}, before)) == [f"its disk {loop} was written to since it was saved"]
