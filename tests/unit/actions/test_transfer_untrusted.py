"""A QEMU that its guest has taken over says what it likes, and gains nothing from it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.support import facts
from virtcpr.actions.rehearsal import trial
from virtcpr.actions.transfer import libvirt_record, new_qemu
from virtcpr.actions.transfer.new_qemu import NewQemu
from virtcpr.domain import status
from virtcpr.errors import HostError
from virtcpr.host.processes import threads
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu import emulator, launch
from virtcpr.host.qemu.launch import Launch
from virtcpr.plan.guest import Guest


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Process]:
    """A process that stands for QEMU, and has a file open."""
    with (tmp_path / "opened").open("w+") as file, subprocess.Popen(["sleep", "600"], stdin=file) as process:
        yield Process.of(process.pid)
        process.kill()


def become(monkeypatch: pytest.MonkeyPatch, order: Launch, *, heard: bool = True) -> bytes:
    """What the process that is to become new QEMU tells its launcher; nothing of this process is changed.

    ``heard``: virtcpr is there still.
    """
    for name in ("_join_cgroup", "_mirror_limits", "_mirror_policies", "_join_mounts", "_drop_privileges", "_label"):
        monkeypatch.setattr(launch, name, lambda _: None)
    monkeypatch.setattr(launch, "_place", lambda _, tell, go: (tell, go))
    reader, writer = os.pipe()
    virtcpr, report = os.pipe()
    if not heard:
        os.close(virtcpr)
    child = os.fork()
    if child == 0:
        launch._become(order, writer, report)
    for fd in (writer, report, *([virtcpr] if heard else [])):
        os.close(fd)
    with os.fdopen(reader, "rb") as said:
        words = said.read()
    os.waitpid(child, 0)
    return words


def test_surroundings_of_another_process_of_that_number_are_not_taken_on(
    old: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old QEMU may end at any time, and its number may go to a process of root's."""
    assert become(monkeypatch, Launch(["/bin/true"], old.pid, old.started, {})) == b""
    said = become(monkeypatch, Launch(["/bin/true"], old.pid, "1", {}))
    assert said == f"HostError: old QEMU (process {old.pid}) has ended".encode()


def test_the_launcher_of_a_virtcpr_that_was_killed_starts_no_qemu(
    old: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guardian has settled the swap by then, and nobody would end new QEMU."""
    order = Launch(["/bin/true"], old.pid, old.started, {})
    assert become(monkeypatch, order, heard=False) == b"HostError: virtcpr has ended"


def test_who_sees_more_of_the_host_takes_on_no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """passt's model sees nothing of the host; what is in its memory could name a library."""
    words = ["sh", "-c", f"echo $LD_PRELOAD$GIVEN > {tmp_path}/given"]
    with subprocess.Popen(["sleep", "600"], env={"GIVEN": "by its model"}) as model:
        try:
            for view, seen in ((True, "by its model"), (False, "")):
                order = Launch(words, model.pid, Process.of(model.pid).started, {}, view=view, program="/bin/sh")
                assert become(monkeypatch, order) == b""
                assert (tmp_path / "given").read_text().strip() == seen
        finally:
            model.kill()


def test_a_file_that_only_its_command_line_names_is_not_opened_for_it(old: Process, tmp_path: Path) -> None:
    """/dev/vhost-net, of a domain that has no vhost."""
    os.close(new_qemu._open(str(tmp_path / "opened"), old))
    other = tmp_path / "other"
    other.touch()
    with pytest.raises(HostError, match=rf"old QEMU \(process {old.pid}\) hasn't opened {other}, which its command"):
        new_qemu._open(str(other), old)


def test_no_more_of_its_log_is_read_than_a_message_needs(old: Process, tmp_path: Path) -> None:
    log = tmp_path / "log"
    line = "2026-05-04T03:02:01.000000Z qemu-system-x86_64: -device x: {}\n"
    log.write_text(line.format("first") + "x" * (2 * new_qemu.MAX_LOG) + "\n" + line.format("last"))
    assert NewQemu(old, (), (), (), log, 0).words() == "-device x: last"


def test_warnings_are_no_reason(old: Process, tmp_path: Path) -> None:
    """QEMU 11.1 warns of much that a later release won't have any more."""
    log = tmp_path / "log"
    log.write_text(
        "2026-05-04T03:02:01.0Z qemu-system-x86_64: -device cirrus-vga: the cause\n"
        "2026-05-04T03:02:01.0Z qemu-system-x86_64: warning: Machine type 'pc-q35-4.2' is deprecated\n"
        "2026-05-04T03:02:01.0Z qemu-system-x86_64: -cpu qemu64: warning: it is deprecated\n"
    )
    assert NewQemu(old, (), (), (), log, 0).words() == "-device cirrus-vga: the cause"


def test_secrets_that_it_quotes_are_stars(old: Process, tmp_path: Path) -> None:
    """QEMU's errors begin with the option that they are about."""
    log = tmp_path / "log"
    log.write_text("2026-05-04T03:02:01.0Z qemu-system-x86_64: -object secret,id=own,data=hunter2: odd\n")
    assert NewQemu(old, (), (), (), log, 0).words() == "-object secret,id=own,data=***"


def test_threads_that_are_not_its_own_are_left_alone(old: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sched_setaffinity", "sched_setscheduler", "setpriority"):
        monkeypatch.setattr(os, name, lambda *_: pytest.fail("another's thread was moved"))
    ours = os.getpid()
    for one, other in (((old.pid, old.pid), (old.pid, ours)), ((old.pid, ours), (old.pid, old.pid))):
        assert threads.mirror(one, other) == (f"thread {ours} isn't one of process {old.pid}",)
    assert threads.mirror((old.pid, old.pid), (old.pid, old.pid)) == ()


@pytest.mark.parametrize(("said", "taken"), [("pty:/dev/pts/7", True), ("pty:/etc/shadow", False), ("pty:", False)])
def test_libvirts_record_gets_no_path_that_it_makes_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, taken: bool
) -> None:
    """virsh console opens it, as root."""
    made: list[status.Successor] = []

    async def execute(command: str) -> Any:
        return [{"label": "charserial0", "filename": said}] if command == "query-chardev" else []

    def rewrite(_: str, new: status.Successor) -> str:
        made.append(new)
        return ""

    monkeypatch.setattr(status, "rewrite", rewrite)
    text, path = facts.domain().status_xml, tmp_path / "web.xml"
    path.write_text(text)
    guest = Guest("web", "", str(tmp_path), str(path), text, "/usr/bin/qemu", True, False, ())
    asyncio.run(libvirt_record.write(guest, SimpleNamespace(execute=execute), Process.of(os.getpid())))  # type: ignore[arg-type]
    assert made[0].ptys == ({"serial0": said.removeprefix("pty:")} if taken else {})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_emulator_that_a_document_names_is_not_run_as_root(tmp_path: Path) -> None:
    place = Path(tempfile.mkdtemp(dir="/var/tmp"))  # pytest's own directories are root's alone
    try:
        place.chmod(0o755)
        program = place / "qemu"
        program.write_text('#!/bin/sh\necho "$(id -u) $(id -g) $(id -G)" >&2\nexit 1\n')
        program.chmod(0o755)
        with pytest.raises(emulator.NotAnEmulator, match=r"isn't QEMU, or is broken: 65534 65534 65534$"):
            asyncio.run(emulator.inspect(str(program)))
        program.write_text('#!/bin/sh\nid -u >&2; echo /; [ "$(id -u)" = 65534 ]\n')
        assert emulator.firmware(str(program)).startswith("/@")
    finally:
        shutil.rmtree(place)


def test_a_binary_that_others_can_change_has_no_twin(old: Process, tmp_path: Path) -> None:
    """The twin would run it, and less confined than the guest is."""
    program = shutil.copy("/bin/sleep", tmp_path / "qemu")
    os.chmod(program, 0o777)
    with subprocess.Popen([program, "600"]) as process:
        try:
            with (
                pytest.raises(HostError, match="others than root can write to the binary that it runs"),
                trial._executable(Process.of(process.pid).path / "exe"),
            ):
                pytest.fail("it would be run")
        finally:
            process.kill()
    with trial._executable(old.path / "exe") as fd:
        assert fd > 2
