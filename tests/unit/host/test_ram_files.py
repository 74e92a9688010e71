"""RAM files: kept over the end of their domain, known again, and what they lie on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtcpr.errors import HostError
from virtcpr.host.files import filesystems, ram_files
from virtcpr.host.processes.proc import Process

UUID = "6b1a0f5e-0d0c-4d5a-9a5e-000000000001"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "ram/1-web/pc.ram"
    found.parent.mkdir(parents=True)
    found.write_bytes(b"guest")
    return found


@pytest.fixture
def owner(path: Path) -> Iterator[Process]:
    """A process that has it open."""
    with path.open("rb") as file, subprocess.Popen(["sleep", "600"], stdin=file) as process:
        yield Process.of(process.pid)
        process.kill()


def test_it_outlives_libvirts_directory(path: Path, owner: Process) -> None:
    before = ram_files.identity(str(path))
    kept = ram_files.keep(str(path), UUID, owner)
    assert kept == ram_files.aside(str(path), UUID) == str(path.parents[1] / f"virtcpr-{UUID}/pc.ram")
    assert Path(kept).parent.stat().st_mode & 0o777 == 0o700
    path.unlink()
    path.parent.rmdir()
    assert ram_files.identity(kept) == before
    assert Path(kept).read_bytes() == b"guest"
    ram_files.forget(kept)
    assert list(path.parents[1].iterdir()) == []


def test_keeping_it_again_replaces_what_an_earlier_save_left(path: Path, owner: Process) -> None:
    kept = Path(ram_files.aside(str(path), UUID))
    kept.parent.mkdir(mode=0o755)
    kept.write_text("of an earlier save")
    assert ram_files.keep(str(path), UUID, owner) == str(kept)
    assert kept.samefile(path)
    assert kept.parent.stat().st_mode & 0o777 == 0o700


def test_another_file_of_that_name_is_not_kept(path: Path, owner: Process) -> None:
    path.unlink()
    path.write_bytes(b"other")
    with pytest.raises(HostError, match=rf"QEMU \(process {owner.pid}\) doesn't use {path} as RAM"):
        ram_files.keep(str(path), UUID, owner)
    assert [one.name for one in path.parents[1].iterdir()] == ["1-web"]


def test_a_file_that_cannot_be_kept_leaves_nothing(path: Path, owner: Process) -> None:
    path.unlink()
    with pytest.raises(HostError, match=rf"the RAM file {path} can't be kept as .*: No such file"):
        ram_files.keep(str(path), UUID, owner)
    ram_files.forget(ram_files.aside(str(path), UUID))  # as going back does
    assert [one.name for one in path.parents[1].iterdir()] == ["1-web"]


def test_a_symbolic_link_is_not_followed(path: Path, owner: Process, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(HostError, match=r"doesn't use .* as RAM|can't be kept"):
        ram_files.keep(str(path), UUID, owner)
    assert secret.stat().st_nlink == 1


def test_where_it_is_kept_must_be_no_link(path: Path, owner: Process, tmp_path: Path) -> None:
    """QEMU's user may write there: it could have root change the mode of any directory, and put names into it."""
    elsewhere = tmp_path / "etc"
    elsewhere.mkdir(mode=0o755)
    Path(ram_files.aside(str(path), UUID)).parent.symlink_to(elsewhere)
    with pytest.raises(HostError, match=rf"the RAM file {path} can't be kept as .*: Not a directory"):
        ram_files.keep(str(path), UUID, owner)
    assert elsewhere.stat().st_mode & 0o777 == 0o755
    assert list(elsewhere.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_where_it_is_kept_must_be_roots(path: Path, owner: Process) -> None:
    directory = Path(ram_files.aside(str(path), UUID)).parent
    directory.mkdir()
    os.chown(directory, 65534, 65534)
    with pytest.raises(HostError, match=rf"{directory} isn't owned by root"):
        ram_files.keep(str(path), UUID, owner)
    assert list(directory.iterdir()) == []


def test_a_link_to_a_file_that_it_has_open_is_not_kept(tmp_path: Path, path: Path, owner: Process) -> None:
    """It would be a file of the host's by the time that the new domain's label is put on it."""
    path.rename(tmp_path / "passwd")
    path.symlink_to(tmp_path / "passwd")
    with pytest.raises(HostError, match=r"doesn't use .* as RAM"):
        ram_files.keep(str(path), UUID, owner)
    assert not os.path.lexists(ram_files.aside(str(path), UUID))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_somebody_elses_file_that_it_has_open_is_not_kept(path: Path, owner: Process) -> None:
    os.chown(path, 65534, 65534)
    with pytest.raises(HostError, match=r"doesn't use .* as RAM"):
        ram_files.keep(str(path), UUID, owner)


def test_forgetting_one_of_two_keeps_the_other(path: Path, owner: Process) -> None:
    kept = Path(ram_files.keep(str(path), UUID, owner))
    other = kept.with_name("dimm0")
    other.touch()
    ram_files.forget(str(kept))
    assert other.exists()
    ram_files.forget(str(other))
    ram_files.forget(str(other))
    assert not other.parent.exists()


def test_who_has_a_file_open(path: Path, owner: Process) -> None:
    assert ram_files.has_open(owner, str(path))
    link = path.with_name("second")
    os.link(path, link)
    assert ram_files.has_open(owner, str(link))
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    assert not ram_files.has_open(owner, str(copy))
    with pytest.raises(HostError, match="No such file"):
        ram_files.has_open(owner, str(path.with_name("gone")))
    owner.kill(10)
    with pytest.raises(HostError, match="No such file"):
        ram_files.has_open(Process(1 << 22, "1"), str(path))


def test_identity_tells_writes_and_other_files(path: Path) -> None:
    before = ram_files.identity(str(path))
    assert ram_files.identity(str(path)) == before
    os.utime(path, ns=(0, before.modified_ns + 1))
    assert ram_files.identity(str(path)) != before
    assert (ram_files.identity(str(path)).inode, ram_files.identity(str(path)).size) == (before.inode, before.size)
    path.write_bytes(b"longer than it was")
    assert ram_files.identity(str(path)).size != before.size
    path.unlink()
    with pytest.raises(HostError, match=rf"the RAM file {path} can't be looked at: No such file"):
        ram_files.identity(str(path))


def test_a_file_that_cannot_be_written_back(path: Path) -> None:
    ram_files.write_back(str(path))
    with pytest.raises(HostError, match="can't be written back: Is a directory"):
        ram_files.write_back(str(path.parent))


def test_the_start_is_announced_until_it_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ram_files, "STARTING", tmp_path / "starting")
    ram_files.announce(UUID, "/ram/virtcpr")
    note = tmp_path / "starting" / UUID
    assert (note.read_text(), note.stat().st_mode & 0o777) == ("/ram/virtcpr\n", 0o600)
    ram_files.started(UUID)
    ram_files.started(UUID)
    assert not note.exists()


# What a file lies on.

MOUNTS = """\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
23 22 0:21 / /dev rw,nosuid shared:2 - devtmpfs udev rw
24 23 0:22 / /dev/shm rw - tmpfs tmpfs rw
25 22 0:23 / /dev/hugepages rw - hugetlbfs hugetlbfs rw
26 22 0:24 / /srv/ram rw shared:5 master:1 - tmpfs tmpfs rw,size=1g
27 26 254:2 / /srv/ram/disk rw - xfs /dev/vdb rw
28 22 0:25 / /srv/with\\040blank\\134x rw - tmpfs tmpfs rw
29 22 0:26 / /srv/größe rw - ramfs ramfs rw
30 22 254:3 / /over rw - ext4 /dev/vdc rw
31 30 0:27 / /over rw - tmpfs tmpfs rw
32 22 0:28 / /under rw - tmpfs tmpfs rw
33 32 254:3 / /under rw - btrfs /dev/vdc rw
"""


@pytest.mark.parametrize(
    ("path", "survives"),
    [
        ("/var/lib/x", True),
        ("/srv/ram/x", False),
        ("/srv/ram/disk/x", True),
        ("/srv/ramses/x", True),
        ("/dev/shm/x", False),
        ("/dev/hugepages/x", False),
        ("/srv/with blank\\x/y", False),
        ("/srv/größe/x", False),
        ("/over/x", False),  # the last mount hides those before
        ("/under/x", True),
        ("/srv/ram/disk/../x", False),
        ("/dev/zero", True),  # a device, as DAX is one
    ],
)
def test_what_outlives_a_reboot(tmp_path: Path, path: str, survives: bool) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS, encoding="utf-8")
    assert filesystems.survives(path, mounts) is survives


def test_a_mount_point_that_is_no_utf_8(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_bytes(MOUNTS.encode() + b"34 22 0:29 / /srv/\xff rw - tmpfs tmpfs rw\n")
    assert not filesystems.survives(os.fsdecode(b"/srv/\xff/x"), mounts)
    assert filesystems.survives("/var/lib/x", mounts)


def test_a_link_is_followed(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS, encoding="utf-8")
    link = tmp_path / "link"
    link.symlink_to("/srv/ram/x")
    assert not filesystems.survives(str(link), mounts)


def test_this_hosts_own_mounts_can_be_read() -> None:
    assert not filesystems.survives("/proc/self/../../dev/x") or sys.platform != "linux"


def test_room_where_a_directory_will_be(tmp_path: Path) -> None:
    free = filesystems.free_bytes(tmp_path / "not/yet/there")
    assert 0 < free <= os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
