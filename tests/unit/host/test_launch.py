"""What new QEMU begins with: old QEMU's security label, and no signal that is ignored."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu import launch
from virtcpr.host.system.wait import wait_until

SVIRT = "unconfined_u:unconfined_r:svirt_t:s0:c392,c662"


def process(tmp_path: Path, label: str) -> Path:
    """A process in /proc with this label."""
    (tmp_path / "attr").mkdir()
    (tmp_path / "attr/current").write_text(label)
    return tmp_path


def selinux(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("virtcpr.host.system.selinux.ROOT", tmp_path)


def test_a_session_s_guest_keeps_its_selinux_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SELinux user of a session is unconfined_u; its guests are confined all the same."""
    (tmp_path / "enforce").touch()
    selinux(monkeypatch, tmp_path)
    assert launch._label(process(tmp_path, f"{SVIRT}\0")) == SVIRT


@pytest.mark.parametrize(
    ("label", "written"),
    [
        ("unconfined\n", None),
        ("", None),
        ("libvirt-eb4f8de1 (enforce)\n", "exec libvirt-eb4f8de1"),
        ("libvirt-eb4f8de1", "exec libvirt-eb4f8de1"),
        ("unconfined_qemu (complain)\n", "exec unconfined_qemu"),
        ("qemu (unconfined)\n", "exec qemu"),
    ],
)
def test_apparmor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: str, written: str | None) -> None:
    selinux(monkeypatch, tmp_path / "none")
    assert launch._label(process(tmp_path, label)) == written


def test_without_a_security_module(tmp_path: Path) -> None:
    assert launch._label(tmp_path) is None


@pytest.mark.parametrize(("number", "raises"), [(errno.EINVAL, False), (errno.EACCES, True), (errno.EPERM, True)])
def test_a_label_that_cannot_be_read_is_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, *, raises: bool
) -> None:
    """The kernel answers EINVAL if no security module has the attribute."""

    def read(_: Path) -> str:
        raise OSError(number, "refused")

    monkeypatch.setattr(Path, "read_text", read)
    if raises:
        with pytest.raises(OSError, match="refused"):
            launch._label(tmp_path)
    else:
        assert launch._label(tmp_path) is None


def test_no_signal_is_ignored_or_blocked(tmp_path: Path) -> None:
    """As libvirt starts its own; Python ignores SIGPIPE and SIGXFSZ, and virtcpr SIGTTOU in a batch."""
    said = tmp_path / "said"
    command = ["/bin/sh", "-c", f"grep -E 'Sig(Ign|Blk):' /proc/self/status >{said}.new; mv {said}.new {said}"]
    null = os.open("/dev/null", os.O_RDWR)
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as model:
        try:
            fds = {0: null, 1: null, 2: null}
            launch.launch(launch.Launch(command, model.pid, Process.of(model.pid).started, fds))
            assert wait_until(said.exists, 10)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            signal.signal(signal.SIGTTOU, before)
            model.kill()
            os.close(null)
    valid = sum(1 << number - 1 for number in signal.valid_signals())  # without those of the C library's own
    values = [int(line.split()[1], 16) & valid for line in said.read_text().splitlines()]
    assert values == [0, 0]
