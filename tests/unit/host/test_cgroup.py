"""How much memory the limits above a process leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtcpr.host.system import cgroup

MIB = 1 << 20


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``/proc/PID`` of a process in /slice/scope/emulator, the last of which is threaded."""
    (tmp_path / "cgroup").write_text("1:name=systemd:/other\n0::/slice/scope/emulator\n")
    (tmp_path / "root/slice/scope/emulator").mkdir(parents=True)
    monkeypatch.setattr(cgroup, "hierarchy", lambda *_: str(tmp_path / "root"))
    return tmp_path


def limited(directory: Path, limit: str, current: int, files: int) -> None:
    (directory / "memory.max").write_text(f"{limit}\n")
    (directory / "memory.current").write_text(f"{current * MIB}\n")
    shmem = 5 * MIB  # of files that are nowhere but in memory
    (directory / "memory.stat").write_text(f"anon 1\nfile {files * MIB + shmem}\nshmem {shmem}\n")


def test_the_narrowest_limit_counts(process: Path) -> None:
    limited(process / "root/slice", str(400 * MIB), 370, 0)
    limited(process / "root/slice/scope", str(300 * MIB), 290, 40)
    assert cgroup.memory_room(process) == 30 << 10


def test_no_limit(process: Path) -> None:
    limited(process / "root/slice", "max", 370, 0)
    assert cgroup.memory_room(process) is None


def test_no_unified_hierarchy(process: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "hierarchy", lambda *_: None)
    assert cgroup.memory_room(process) is None
