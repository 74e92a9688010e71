"""The process behind an interface, from its command line."""

from __future__ import annotations

import pytest

from virtcpr.domain.argv import CommandLine
from virtcpr.domain.helpers import passt
from virtcpr.errors import ParseError

SOCKET, PID_FILE = "/run/libvirt/qemu/passt/1-guest-net1.socket", "/run/libvirt/qemu/passt/1-guest-net1-passt.pid"
# As libvirt 11.3 starts it, recorded in the lab.
ARGV = ("passt", "--one-off", "--socket", SOCKET, "--pid", PID_FILE)


def test_its_files() -> None:
    read = passt.read(7, "70", ARGV, SOCKET)
    assert (read.socket, read.pid_file, read.detaches, read.problem) == (SOCKET, PID_FILE, True, "")
    assert read.leftovers == (f"{SOCKET}.virtcpr", f"{PID_FILE}.virtcpr")
    assert read.serves == "a network interface"


@pytest.mark.parametrize("change", [("--tcp-ports", "22"), ("--interface", "eth0"), ("--log-file", "/log"), ("-f",)])
def test_an_argument_that_nothing_was_run_with(change: tuple[str, ...]) -> None:
    with pytest.raises(ParseError, match=f"the argument {change[0]}"):
        passt.read(7, "70", (*ARGV, *change), SOCKET)


@pytest.mark.parametrize("argv", [ARGV[:1], ARGV[:4], ("/bin/sh", *ARGV[1:]), (ARGV[0], *ARGV[2:])])
def test_another_program(argv: tuple[str, ...]) -> None:
    with pytest.raises(ParseError, match="wasn't started as libvirt starts it"):
        passt.read(7, "70", argv, SOCKET)


def test_another_guests() -> None:
    with pytest.raises(ParseError, match=f"process 7 listens at {SOCKET}"):
        passt.read(7, "70", ARGV, "/run/libvirt/qemu/passt/2-other-net0.socket")


def test_where_qemu_finds_it() -> None:
    stream = f'{{"type":"stream","addr":{{"type":"unix","path":"{SOCKET}"}},"server":false,"id":"hostnet1"}}'
    line = CommandLine.parse(["qemu", "-netdev", stream, "-netdev", '{"type":"tap","fd":"30","id":"hostnet0"}'])
    assert passt.sockets_of(line, ["hostnet0", "hostnet1"]) == {SOCKET: PID_FILE}
    assert passt.sockets_of(line, ["hostnet0"]) == {}, "it was detached"
