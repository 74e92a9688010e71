"""The processes that serve a guest, as the probe finds them: none that isn't libvirt's is ever taken for one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtcpr.actions.inspect import helpers
from virtcpr.domain.argv import CommandLine
from virtcpr.domain.helpers import swtpm, virtiofsd
from virtcpr.domain.helpers.helper import Helper
from virtcpr.host.processes.proc import Process, User


def line(directory: Path) -> CommandLine:
    socket = f"socket,id=chrtpm,path={directory}/tpm.sock"
    return CommandLine.parse(["qemu", "-chardev", socket, "-tpmdev", "emulator,id=tpm-tpm0,chardev=chrtpm"])


@pytest.fixture
def sleeper() -> Iterator[int]:
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def problem(directory: Path) -> str:
    (found,) = helpers.look(line(directory), ["chrtpm"])
    return found.problem


def test_a_guest_without_one() -> None:
    assert helpers.look(CommandLine.parse(["qemu"]), []) == ()
    assert helpers.look(None, []) == ()


def test_a_process_that_is_gone_or_another(tmp_path: Path, sleeper: int) -> None:
    file = tmp_path / "tpm.pid"
    assert "No such file" in problem(tmp_path)
    file.write_text("x")
    assert "invalid literal" in problem(tmp_path)
    file.write_text(str(2**22 + 1))
    assert "is gone" in problem(tmp_path)
    file.write_text(str(sleeper))
    assert "swtpm has the argument" in problem(tmp_path) or "as libvirt starts it" in problem(tmp_path)


def test_a_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers, "SYSTEM", object())
    assert "a user's own libvirt has started it" in problem(tmp_path)


def test_one_that_sees_other_files(tmp_path: Path, sleeper: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tpm.pid").write_text(str(sleeper))
    found = Helper("swtpm", sleeper, "1", ("swtpm",), f"{tmp_path}/tpm.sock", f"{tmp_path}/tpm.pid")
    monkeypatch.setattr(swtpm, "read", lambda *_: found)
    assert helpers.look(line(tmp_path), ["chrtpm"]) == (found,)
    readlink = os.readlink
    monkeypatch.setattr(os, "readlink", lambda path: readlink(path) if "self" in str(path) else "mnt:[1]")
    assert "doesn't see the host's files" in problem(tmp_path)


def test_one_with_a_sandbox_that_is_not_roots(tmp_path: Path, sleeper: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another is given root's rights, to give them up as the first one did."""
    socket, pid_file = tmp_path / "domain-1-web/fs0-fs.sock", tmp_path / "1-web-fs0-fs.pid"
    pid_file.write_text(str(sleeper))
    monkeypatch.setattr(virtiofsd, "PID_FILES", str(tmp_path))
    found = Helper("virtiofsd", sleeper, "1", ("virtiofsd",), str(socket), str(pid_file), sandbox=True)
    monkeypatch.setattr(virtiofsd, "read", lambda *_: found)
    chardev = f"socket,id=chr-vu-fs0,path={socket}"
    line = CommandLine.parse(["qemu", "-chardev", chardev, "-device", "vhost-user-fs-pci,chardev=chr-vu-fs0,tag=x"])
    monkeypatch.setattr(Process, "user", lambda _: User(0, 0))
    assert helpers.look(line, ["chr-vu-fs0"]) == (found,)
    monkeypatch.setattr(Process, "user", lambda _: User(1000, 1000))
    assert "is user 1000's" in helpers.look(line, ["chr-vu-fs0"])[0].problem


def test_one_that_detaches_and_may_be_anybodys(tmp_path: Path, sleeper: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pid file is QEMU's user's to write: what is named there gives another no rights but that user's, and what is
    run is nobody else's than root's."""
    socket, pid_file, binary = tmp_path / "1-web-net0.socket", tmp_path / "1-web-net0-passt.pid", tmp_path / "passt"
    pid_file.write_text(str(sleeper))
    binary.touch(0o755)
    monkeypatch.setattr(helpers, "PATH", str(tmp_path))
    words = ("passt", "--one-off", "--socket", str(socket), "--pid", str(pid_file))
    netdev = f'{{"type":"stream","addr":{{"type":"unix","path":"{socket}"}},"server":false,"id":"hostnet0"}}'
    line = CommandLine.parse(["qemu", "-netdev", netdev])
    monkeypatch.setattr(Process, "argv", lambda _: words)
    monkeypatch.setattr(Process, "user", lambda _: User(1000, 1000))
    (found,) = helpers.look(line, ["hostnet0"])
    assert (found.pid, found.program, found.problem) == (sleeper, str(binary), "")
    binary.chmod(0o775)
    (found,) = helpers.look(line, ["hostnet0"])
    assert f"others than root can write to {binary}" in found.problem
    binary.unlink()
    (found,) = helpers.look(line, ["hostnet0"])
    assert f"there is no passt in {tmp_path}" in found.problem
    monkeypatch.setattr(Process, "user", lambda _: User(0, 0))
    (found,) = helpers.look(line, ["hostnet0"])
    assert f"process {sleeper} is root's" in found.problem
