"""The process of a TPM, from its command line."""

from __future__ import annotations

import pytest

from virtcpr.domain.argv import CommandLine
from virtcpr.domain.helpers import swtpm
from virtcpr.errors import ParseError

SOCKET = "/run/libvirt/qemu/swtpm/1-guest-swtpm.sock"
STATE = "/var/lib/libvirt/swtpm/7b54a1e7-51fb-4cb4-b1d8-86cbb85b1f48/tpm2"
# As libvirt 11.3 starts it, recorded in the lab.
ARGV = (
    *("/usr/bin/swtpm", "socket", "--ctrl", f"type=unixio,path={SOCKET},mode=0600"),
    *("--tpmstate", f"dir={STATE},mode=0600", "--log", "file=/var/log/swtpm/libvirt/qemu/guest-swtpm.log"),
    *("--terminate", "--tpm2"),
)


def test_its_files() -> None:
    read = swtpm.read(7, "70", ARGV, SOCKET)
    assert (read.socket, read.problem) == (SOCKET, "")
    assert read.pid_file == "/run/libvirt/qemu/swtpm/1-guest-swtpm.pid"
    assert read.set_aside == (SOCKET, f"{STATE}/.lock")
    assert read.leftovers == tuple(f"{path}.virtcpr" for path in (*read.set_aside, read.pid_file))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--key", "pwdfd=25,mode=aes-256-cbc"), "the argument --key"),
        (("--migration", "release-lock-outgoing"), "the argument --migration"),
        (("--tpmstate", "backend-uri=file:///srv/tpm"), "the argument --tpmstate backend-uri=file:///srv/tpm"),
        (("--ctrl", "type=tcp,port=2322"), "the argument --ctrl type=tcp,port=2322"),
        (("--log",), "the argument --log"),
    ],
)
def test_an_argument_that_nothing_was_run_with(change: tuple[str, ...], words: str) -> None:
    with pytest.raises(ParseError, match=words):
        swtpm.read(7, "70", (*ARGV, *change), SOCKET)


@pytest.mark.parametrize("argv", [ARGV[:1], ("/usr/bin/swtpm", "chardev", *ARGV[2:]), ARGV[:4]])
def test_another_program(argv: tuple[str, ...]) -> None:
    with pytest.raises(ParseError, match="wasn't started as libvirt starts it"):
        swtpm.read(7, "70", argv, SOCKET)


def test_where_qemu_finds_it() -> None:
    options = ["-chardev", f"socket,id=chrtpm,path={SOCKET}", "-tpmdev", "emulator,id=tpm-tpm0,chardev=chrtpm"]
    other = ["-chardev", "socket,id=other,path=/run/other.sock"]
    found = {SOCKET: "/run/libvirt/qemu/swtpm/1-guest-swtpm.pid"}
    assert swtpm.sockets_of(CommandLine.parse(["qemu", *other, *options]), ["chrtpm", "other"]) == found
    assert swtpm.sockets_of(CommandLine.parse(["qemu", *other]), ["other"]) == {}
    host = ["-tpmdev", "passthrough,id=tpm-tpm0,path=/dev/tpm0"]
    assert swtpm.sockets_of(CommandLine.parse(["qemu", *other, *host]), ["other"]) == {}


def test_it_listens_elsewhere() -> None:
    with pytest.raises(ParseError, match="process 7 listens at"):
        swtpm.read(7, "70", ARGV, "/run/other.sock")
