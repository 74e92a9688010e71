"""What SELinux's policy says of a guest's label; the kernel's answers are as Linux writes them."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu import qmp
from virtcpr.host.system import selinux

SHELL = "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023"
GUEST = "system_u:system_r:svirt_t:s0:c400,c689"
TRANSITION = 2  # /sys/fs/selinux/class/process/perms/transition
QUESTION = f"{SHELL} {GUEST} 2"
NO, YES = "7dfffffd ffffffff 0 ffffffff 10 0", "7dffffff ffffffff 0 ffffffff 10 0"
PERMISSIVE_DOMAIN = "7dfffffd ffffffff 0 ffffffff 10 1"


class Guest(Process):
    path = Path()


def kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, *, enforce: str = "1", own: str = SHELL
) -> Path:
    """What selinuxfs and /proc say; the answer stands where a file is read on after the question was written."""
    for name, text in (
        ("enforce", enforce),
        ("class/process/index", "2"),
        ("class/process/perms/transition", str(TRANSITION)),
        ("class/file/index", "6"),
        *((f"class/file/perms/{name}", str(bit)) for bit, name in enumerate(selinux.SCRIPT, 14)),
        ("access", QUESTION.replace(SHELL, own) + answer),
        ("own/attr/current", f"{own}\0"),
        ("guest/attr/current", f"{GUEST}\0"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(selinux, "ROOT", tmp_path)
    monkeypatch.setattr(Guest, "path", tmp_path / "guest")
    return tmp_path / "own"


@pytest.mark.parametrize(("answer", "refused"), [(NO, GUEST), (YES, None), (PERMISSIVE_DOMAIN, None)])
def test_the_policy_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, refused: str | None) -> None:
    own = kernel(tmp_path, monkeypatch, answer)
    assert selinux.refuses_label(Guest(1, "1"), own) == refused
    assert (tmp_path / "access").read_text().startswith(QUESTION)


def test_what_is_not_enforced_refuses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = kernel(tmp_path, monkeypatch, NO, enforce="0")
    assert selinux.refuses_label(Guest(1, "1"), own) is None


def test_a_guest_with_virtcprs_own_label_needs_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = kernel(tmp_path, monkeypatch, NO, own=GUEST)
    assert selinux.refuses_label(Guest(1, "1"), own) is None


@pytest.mark.parametrize(("allowed", "forbidden"), [(0, True), (1 << 13, True), (0b11111 << 13, False)])
def test_whether_a_process_may_run_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: int, forbidden: bool
) -> None:
    """A script needs more than "execute"."""
    answer = f"{allowed:x} ffffffff 0 ffffffff 10 0"
    kernel(tmp_path, monkeypatch, answer)
    question = f"{GUEST} system_u:object_r:virt_etc_rw_t:s0 6"
    (tmp_path / "access").write_text(question + answer)
    monkeypatch.setattr(os, "getxattr", lambda *_: b"system_u:object_r:virt_etc_rw_t:s0\0")
    assert selinux.forbids_running(GUEST, "/etc/libvirt/hooks/qemu") is forbidden
    assert (tmp_path / "access").read_text().startswith(question)


def test_a_program_without_a_label_is_not_surely_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel(tmp_path, monkeypatch, YES)
    assert selinux.forbids_running(GUEST, tmp_path / "gone")
    kernel(tmp_path, monkeypatch, YES, enforce="0")
    assert not selinux.forbids_running(GUEST, tmp_path / "gone")


def test_a_kernel_without_selinux_refuses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selinux, "ROOT", tmp_path / "gone")
    assert selinux.refuses_label(Process.of(1)) is None


@pytest.mark.parametrize(
    ("directory", "label"),
    [
        (b"system_u:object_r:svirt_image_t:s0:c1,c2\0", "unconfined_u:unconfined_r:unconfined_t:s0:c1,c2"),
        (b"system_u:object_r:var_run_t:s0\0", None),
        (None, None),
    ],
)
def test_who_connects_has_the_guests_categories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: bytes | None, label: str | None
) -> None:
    (tmp_path / "attr").mkdir()
    (tmp_path / "attr/current").write_text(f"{SHELL}\0")
    monkeypatch.setattr(selinux, "OWN", tmp_path)

    def labels(path: str, name: str) -> bytes:
        assert (path, name) == ("/var/lib/libvirt/qemu/domain-1-web", "security.selinux")
        if directory is None:
            raise OSError
        return directory

    monkeypatch.setattr(os, "getxattr", labels)
    monkeypatch.setattr(selinux, "ROOT", tmp_path)
    assert selinux.client_label("/var/lib/libvirt/qemu/domain-1-web/monitor.sock") is None  # a label of earlier days
    (tmp_path / "enforce").write_text("0")
    assert selinux.client_label("/var/lib/libvirt/qemu/domain-1-web/monitor.sock") == label


def test_a_label_that_cannot_be_had_keeps_nobody_from_a_monitor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest may wait for virtcpr there, paused."""
    monkeypatch.setattr(selinux, "SOCKETS", str(tmp_path / "none"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "monitor.sock"))
        listener.listen()
        with asyncio.run(qmp._connected(str(tmp_path / "monitor.sock"), SHELL)):
            listener.accept()[0].close()
