"""The process of a TPM as the probe finds it: none that isn't libvirt's is ever taken for it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtcpr.actions.inspect import tpm
from virtcpr.domain import swtpm
from virtcpr.domain.argv import CommandLine
from virtcpr.domain.swtpm import Swtpm


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
    found = tpm.look(line(directory))
    assert found is not None
    return found.problem


def test_a_guest_without_one() -> None:
    assert tpm.look(CommandLine.parse(["qemu"])) is None
    assert tpm.look(None) is None


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
    monkeypatch.setattr(tpm, "SYSTEM", object())
    assert "a user's own libvirt has started it" in problem(tmp_path)


def test_one_that_sees_other_files(tmp_path: Path, sleeper: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tpm.pid").write_text(str(sleeper))
    found = Swtpm(sleeper, "1", ("swtpm",), f"{tmp_path}/tpm.sock", str(tmp_path))
    monkeypatch.setattr(swtpm, "read", lambda *_: found)
    assert tpm.look(line(tmp_path)) == found
    readlink = os.readlink
    monkeypatch.setattr(os, "readlink", lambda path: readlink(path) if "self" in str(path) else "mnt:[1]")
    assert "doesn't see the host's files" in problem(tmp_path)
