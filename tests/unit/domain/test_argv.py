"""QEMU's command line: read, changed, written; and its successor stays the same from swap to swap."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.support.facts import process
from virtcpr.domain.argv import CommandLine, Option, successor
from virtcpr.errors import ParseError


def test_a_real_command_line_round_trips() -> None:
    argv = process().argv
    assert CommandLine.parse(argv).argv() == argv


def test_flags_take_no_value() -> None:
    line = CommandLine.parse(("qemu", "-S", "-nodefaults", "-name", "guest=x"))
    assert line.options == (Option("S"), Option("nodefaults"), Option("name", "guest=x"))


def test_two_dashes_are_one() -> None:
    assert CommandLine.parse(("qemu", "--name", "x")).options == (Option("name", "x"),)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "empty command line"),
        (("qemu", "disk.img"), "an argument that belongs to no option: disk.img"),
        (("qemu", "-name"), "ends after -name, which needs a value"),
    ],
)
def test_what_libvirt_never_writes_is_refused(argv: tuple[str, ...], message: str) -> None:
    with pytest.raises(ParseError, match=message):
        CommandLine.parse(argv)


def test_properties_of_both_syntaxes() -> None:
    assert Option("chardev", "socket,id=c,fd=3,server=on").properties() == {
        "": "socket",
        "id": "c",
        "fd": "3",
        "server": "on",
    }
    assert Option("netdev", '{"type":"tap","fd":"32"}').properties() == {"type": "tap", "fd": "32"}
    assert Option("S").properties() == {}


def test_broken_json_is_refused() -> None:
    with pytest.raises(ParseError, match="broken JSON"):
        Option("device", "{oops").properties()


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


@given(TEXT)
def test_commas_survive_a_change(path: str) -> None:
    """Escaping is QEMU's own: a comma is doubled."""
    option = Option("chardev", "file,id=c,path=old").with_properties({"path": path})
    assert option.properties() == {"": "file", "id": "c", "path": path}


def test_a_change_keeps_the_syntax() -> None:
    assert (
        Option("netdev", '{"type":"tap","fd":"32"}').with_properties({"fd": "11"}).value == '{"type":"tap","fd":"11"}'
    )
    assert Option("vnc", "127.0.0.1:0,audiodev=a").with_properties({"": "none"}).value == "none,audiodev=a"


def test_the_successor_waits_on_the_cpr_channel_and_grows_no_further() -> None:
    line = CommandLine.parse(process().argv)
    first = successor(line, "/new/qemu", {}, "/run/cpr.sock")
    second = successor(first, "/new/qemu", {}, "/run/cpr.sock")

    assert second == first
    assert first.emulator == "/new/qemu"
    incoming = [option.value for option in first.named("incoming")]
    assert incoming[0] == "defer"
    assert json.loads(incoming[1] or "")["addr"]["path"] == "/run/cpr.sock"
    assert sum(option.name == "S" for option in first.options) == 1
    kept = [option for option in line.options if option.name not in ("incoming", "S")]
    assert list(first.options[: len(kept)]) == kept


def test_ids() -> None:
    line = CommandLine.parse(process().argv)
    assert {"charmonitor", "charserial0", "charchannel0"} == line.ids("chardev")
    assert "virtio-disk0" in line.ids("device")
    assert "libvirt-3-format" in line.ids("blockdev", key="node-name")
