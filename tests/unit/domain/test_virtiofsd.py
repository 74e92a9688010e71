"""The process of a shared directory, from its command line."""

from __future__ import annotations

import pytest

from virtcpr.domain.argv import CommandLine
from virtcpr.domain.helpers import virtiofsd
from virtcpr.errors import ParseError

SOCKET = "/var/lib/libvirt/qemu/domain-1-guest/fs0-fs.sock"
PID_FILE = "/run/libvirt/qemu/1-guest-fs0-fs.pid"
# As libvirt 11.3 starts it, recorded in the lab.
ARGV = ("/usr/libexec/virtiofsd", "--fd=32", "--shared-dir", "/srv/share")


def test_its_files() -> None:
    read = virtiofsd.read(7, "70", ARGV, SOCKET)
    assert (read.socket, read.pid_file, read.listener, read.problem) == (SOCKET, PID_FILE, 32, "")
    assert read.leftovers == (f"{SOCKET}.virtcpr", f"{PID_FILE}.virtcpr")


@pytest.mark.parametrize("change", [("--xattr",), ("--cache", "always"), ("--cache=always",)])
def test_what_was_run(change: tuple[str, ...]) -> None:
    assert virtiofsd.read(7, "70", (*ARGV, *change), SOCKET).argv == (*ARGV, *change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--sandbox", "chroot"), "the argument --sandbox"),
        (("--cache", "never"), "the argument --cache never"),
        (("--readonly",), "the argument --readonly"),
        (("-o", "posix_lock"), "the argument -o"),
        (("--fd=x",), "the argument --fd x"),
    ],
)
def test_an_argument_that_nothing_was_run_with(change: tuple[str, ...], words: str) -> None:
    with pytest.raises(ParseError, match=words):
        virtiofsd.read(7, "70", (*ARGV, *change), SOCKET)


@pytest.mark.parametrize("argv", [ARGV[:1], ARGV[:2], ("/bin/sh",)])
def test_another_program(argv: tuple[str, ...]) -> None:
    with pytest.raises(ParseError, match="wasn't started as libvirt starts it"):
        virtiofsd.read(7, "70", argv, SOCKET)


def test_where_qemu_finds_it() -> None:
    chardev = ["-chardev", f"socket,id=chr-vu-fs0,path={SOCKET}", "-chardev", "socket,id=other,path=/run/other.sock"]
    device = ["-device", '{"driver":"vhost-user-fs-pci","id":"fs0","chardev":"chr-vu-fs0","tag":"share"}']
    line = CommandLine.parse(["qemu", *chardev, *device])
    assert virtiofsd.sockets_of(line, ["chr-vu-fs0", "other"]) == {SOCKET: PID_FILE}
    assert virtiofsd.sockets_of(line, ["other"]) == {}, "it was detached"
    assert virtiofsd.sockets_of(CommandLine.parse(["qemu", *chardev]), ["chr-vu-fs0"]) == {}
