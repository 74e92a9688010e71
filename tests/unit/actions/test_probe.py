"""What the probe reads of the host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from virtcpr.actions.inspect import probe
from virtcpr.actions.inspect.probe import Probe
from virtcpr.errors import HostError
from virtcpr.host.system.paths import PATHS


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "qemu.conf"
    monkeypatch.setattr(probe, "PATHS", replace(PATHS, qemu_conf=path))
    return path


def test_settings_in_any_quotes(conf: Path) -> None:
    conf.write_bytes(b"# \xe9\nlock_manager = 'lockd'\nvnc_password = '\xe9'\nspice_password = \"x\"\n")
    assert Probe().lock_manager == "lockd"
    assert Probe().passwords == {"vnc": "\udce9", "spice": "x"}


def test_without_a_file_nothing_is_set(conf: Path) -> None:
    assert (Probe().lock_manager, Probe().passwords) == (None, {"vnc": None, "spice": None})


def test_a_file_that_cannot_be_read_is_not_taken_for_an_empty_one(conf: Path) -> None:
    """There may be a lock manager, whose leases a swap would lose."""
    conf.mkdir()
    with pytest.raises(HostError, match=r"qemu.conf can't be read: Is a directory; whether libvirt has a lock") as why:
        Probe()
    assert why.value.hint == f"see why: ls -l {conf}"
