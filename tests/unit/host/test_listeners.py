"""New QEMU's listening sockets, beside old's."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from virtcpr.errors import HostError
from virtcpr.host.qemu import listeners
from virtcpr.host.system import selinux


@pytest.fixture
def old(tmp_path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(tmp_path / "monitor.sock"))
    made.listen()
    os.chmod(tmp_path / "monitor.sock", 0o775)
    return made


def test_its_own_label_is_olds(old: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With SELinux: the label is set while it is made, and for no other socket of this thread."""
    said: list[bytes | str] = []
    label = b"system_u:system_r:svirt_t:s0:c1,c2"
    (tmp_path / "sockcreate").touch()
    monkeypatch.setattr(selinux, "SOCKETS", str(tmp_path / "sockcreate"))
    monkeypatch.setattr(os, "getxattr", lambda *_, **__: label)
    monkeypatch.setattr(os, "setxattr", lambda *_, **__: None)
    monkeypatch.setattr(os, "write", lambda _, data: said.append(data))
    made = socket.socket

    def seen(*arguments: int) -> socket.socket:
        said.append("a socket")
        return made(*arguments)

    monkeypatch.setattr(socket, "socket", seen)
    os.close(listeners.bind(str(tmp_path / "new"), str(tmp_path / "monitor.sock"), like=old.fileno()))
    assert said == [label, "a socket", b""]


def connect(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_it_looks_like_olds_and_holds_who_connects(old: socket.socket, tmp_path: Path) -> None:
    path = tmp_path / "monitor.sock.virtcpr"
    path.write_text("a leftover")

    fd = listeners.bind(str(path), str(tmp_path / "monitor.sock"), like=old.fileno())

    assert stat.filemode(path.stat().st_mode) == "srwxrwxr-x"
    connect(path)
    with socket.socket(fileno=fd) as made:
        made.accept()[0].close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_it_belongs_to_olds_user(old: socket.socket, tmp_path: Path) -> None:
    os.chown(tmp_path / "monitor.sock", 123, 456)
    path = tmp_path / "monitor.sock.virtcpr"
    os.close(listeners.bind(str(path), str(tmp_path / "monitor.sock")))
    assert (path.stat().st_uid, path.stat().st_gid) == (123, 456)


def test_what_cannot_be_bound_is_said(old: socket.socket, tmp_path: Path) -> None:
    path = tmp_path / "none" / "monitor.sock"
    with pytest.raises(HostError, match=r"none/monitor.sock can't be made: No such file or directory"):
        listeners.bind(str(path), str(tmp_path / "monitor.sock"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can tell")
def test_whether_clients_reach_it_by_its_path(old: socket.socket, tmp_path: Path) -> None:
    path = tmp_path / "monitor.sock"
    assert listeners.is_at(old.fileno(), str(path))
    path.unlink()
    assert not listeners.is_at(old.fileno(), str(path))
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        assert not listeners.is_at(old.fileno(), str(path))
