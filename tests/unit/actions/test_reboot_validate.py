"""What is saved is looked at before anything is started: every reason to refuse it, each by one thing changed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support.saved_guest import STATE, a_record
from virtcpr.actions.reboot import disks, validate
from virtcpr.actions.records import saves
from virtcpr.actions.records.saves import RamFile, Record
from virtcpr.domain.facts import Emulator
from virtcpr.errors import HostError, ParseError
from virtcpr.host.files import dax, ram_files
from virtcpr.host.files.block_devices import Block
from virtcpr.plan.reboot.recovery import Purpose, Stage

QEMU = Emulator("/usr/bin/qemu", "10.0.13", machines=frozenset({"pc-q35-10.0"}))
Change = Callable[[Path, Record], object]


def saved(**changes: object) -> Change:
    def change(_: Path, one: Record) -> None:
        one.saved = replace(one.saved, **changes)  # type: ignore[arg-type]

    return change


def state(data: bytes) -> Change:
    return lambda _, one: one.state_path.write_bytes(data)


def gone(name: str) -> Change:
    return lambda directory, _: (directory / name).unlink()


def written(name: str) -> Change:
    return lambda directory, _: os.utime(directory / name, ns=(1, 1))


def replaced(name: str) -> Change:
    def change(directory: Path, _: Record) -> None:
        (directory / "new").write_bytes(b"x" * 100)
        (directory / "new").rename(directory / name)

    return change


def grown(name: str) -> Change:
    return lambda directory, _: (directory / name).write_bytes(b"x" * 101)


def interrupted_upgrade(_: Path, one: Record) -> None:
    one.saved = replace(one.saved, purpose=Purpose.UPGRADE, boot="another")


REASONS: dict[str, tuple[Change, str]] = {
    "host": (saved(host="another"), "it was saved on another host"),
    "boot": (interrupted_upgrade, "the host was booted in the middle of its upgrade, before its RAM was on storage"),
    "no state": (saved(state=None), "its state was never whole"),
    "state gone": (lambda _, one: one.state_path.unlink(), "state can't be read: No such file or directory"),
    "state cut": (state(STATE[:-1]), f"its state is cut off: {len(STATE) - 1} of {len(STATE)} bytes"),
    "state longer": (state(STATE + b"x"), "its state was changed since: the checksum differs"),
    "state other": (state(b"y" + STATE[1:]), "its state was changed since: the checksum differs"),
    "ram gone": (gone("pc.ram"), "pc.ram can't be looked at: No such file or directory"),
    "ram other": (replaced("pc.ram"), "pc.ram isn't the same file as before"),
    "ram grown": (grown("pc.ram"), "pc.ram isn't the same file as before"),
    "ram written": (written("pc.ram"), "pc.ram was written to since"),
    "disk gone": (gone("disk.qcow2"), "disk.qcow2 is gone"),
    "disk written": (written("disk.qcow2"), "disk.qcow2 was written to since it was saved"),
    "disk grown": (grown("disk.qcow2"), "disk.qcow2 was written to since it was saved"),
}


@pytest.mark.parametrize("read", [True, False])
def test_what_is_as_it_was_may_be_restored(tmp_path: Path, read: bool) -> None:
    validate.look(a_record(tmp_path), QEMU, read=read)
    validate.look(saves.load(a_record(tmp_path).saved.uuid, tmp_path / "saved"), QEMU, read=read)


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason(tmp_path: Path, reason: str) -> None:
    one = a_record(tmp_path)
    change, words = REASONS[reason]
    change(tmp_path, one)
    with pytest.raises(HostError) as refused:
        validate.look(one, QEMU)
    message = refused.value.message
    assert message.startswith("web can't be restored: ")
    assert words in message
    assert message.endswith(f"; its state waits in {one.directory}")
    assert message.count(";") == 1  # one reason
    assert refused.value.hint == saves.DISCARD.format(name="web")


def test_all_are_named(tmp_path: Path) -> None:
    one = a_record(tmp_path)
    for reason in ("host", "state cut", "ram gone", "disk gone"):
        REASONS[reason][0](tmp_path, one)
    with pytest.raises(HostError) as refused:
        validate.look(one, QEMU)
    assert all(REASONS[reason][1] in refused.value.message for reason in ("host", "state cut", "ram gone", "disk gone"))


@pytest.mark.parametrize(
    ("emulator", "words"),
    [
        (Emulator("/opt/qemu", problem="doesn't exist"), "the emulator /opt/qemu doesn't exist"),
        (replace(QEMU, machines=frozenset()), "the emulator /usr/bin/qemu (10.0.13) has no machine type pc-q35-10.0"),
    ],
)
def test_an_emulator_that_cannot_load_it(tmp_path: Path, emulator: Emulator, words: str) -> None:
    with pytest.raises(HostError) as refused:
        validate.look(a_record(tmp_path), emulator)
    assert words in refused.value.message


def test_another_boot_is_no_reason_for_what_was_saved_for_it(tmp_path: Path) -> None:
    one = a_record(tmp_path)
    saved(boot="another")(tmp_path, one)
    validate.look(one, QEMU)


def test_a_state_that_is_read_as_it_is_loaded_is_not_read_before(tmp_path: Path) -> None:
    one = a_record(tmp_path)
    one.state_path.write_bytes(b"y" + STATE[1:])
    validate.look(one, QEMU, read=False)


@pytest.mark.parametrize("reason", ["state gone", "state cut", "state longer"])
def test_its_size_is_looked_at_all_the_same(tmp_path: Path, reason: str) -> None:
    one = a_record(tmp_path)
    change, words = REASONS[reason]
    change(tmp_path, one)
    with pytest.raises(validate.Unfit, match=words):
        validate.look(one, QEMU, read=False)


# Disks that aren't files.

RBD = "<disk type='network'><source protocol='rbd' name='pool/a'/><target dev='vdb'/></disk>"
LVM, EXT = "/dev/vg/lvm", "/dev/vg/ext"
SERIAL = Block(1 << 30, "dm/uuid LVM-a", "as it was", True)


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> dict[str, Block]:
    """The host's block devices as they are now: of the second nobody can tell whether it was written to."""
    now = {EXT: SERIAL, LVM: replace(SERIAL, sound=False)}
    monkeypatch.setattr(disks, "blocks", lambda xml: {path: block for path, block in now.items() if path in xml})
    return now


def with_disk(one: Record, xml: str, **changes: Any) -> Record:
    one.saved = replace(one.saved, xml=one.saved.xml.replace("</devices>", f"{xml}</devices>"), **changes)
    return one


def block(path: str) -> str:
    return f"<disk type='block'><source dev='{path}'/><target dev='vdb'/></disk>"


@pytest.mark.parametrize(
    ("xml", "label"), [(RBD, "vdb (rbd pool/a)"), (block(LVM), LVM), (block("/dev/not/recorded"), "/dev/not/recorded")]
)
def test_a_disk_that_nobody_can_tell_of_must_be_vouched_for(
    tmp_path: Path, devices: dict[str, Block], xml: str, label: str
) -> None:
    one = with_disk(a_record(tmp_path), xml, devices={path: disk for path, disk in devices.items() if path in xml})
    with pytest.raises(validate.Unfit) as refused:
        validate.look(one, QEMU)
    assert f"nobody can tell whether {label} was written to since it was saved" in refused.value.message
    assert refused.value.message.count(";") == 1
    assert refused.value.hint == validate.UNCHANGED.format(name="web")
    assert "virtcpr restore --disks-unchanged web" in refused.value.hint
    validate.look(one, QEMU, trusted=True)


def test_a_record_of_before_block_devices_were_recorded(tmp_path: Path, devices: dict[str, Block]) -> None:
    one = with_disk(a_record(tmp_path), block(EXT))
    one.write(Stage.SAVED)
    path = one.directory / "record.json"
    body = json.loads(path.read_text())
    del body["devices"], body["sha256"]
    path.write_text(json.dumps({"sha256": saves._checksum(body), **body}))
    with pytest.raises(validate.Unfit, match=f"nobody can tell whether {EXT}"):
        validate.look(saves.load(one.saved.uuid, tmp_path / "saved"), QEMU)


def test_a_block_device_that_is_as_it_was(tmp_path: Path, devices: dict[str, Block]) -> None:
    one = with_disk(a_record(tmp_path), block(EXT), devices={EXT: SERIAL})
    one.write(Stage.SAVED)
    validate.look(saves.load(one.saved.uuid, tmp_path / "saved"), QEMU)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (None, f"its disk {EXT} is gone"),
        (replace(SERIAL, size=1), f"its disk {EXT} is another device than when it was saved"),
        (replace(SERIAL, serial="wwid b"), f"its disk {EXT} is another device than when it was saved"),
        (replace(SERIAL, sha256="another"), f"its disk {EXT} was written to since it was saved"),
    ],
)
def test_one_that_is_not_is_refused_whoever_vouches_for_it(
    tmp_path: Path, devices: dict[str, Block], now: Block | None, words: str
) -> None:
    one = with_disk(a_record(tmp_path), block(EXT), devices={EXT: SERIAL})
    del devices[EXT]
    if now is not None:
        devices[EXT] = now
    with pytest.raises(validate.Unfit) as refused:
        validate.look(one, QEMU, trusted=True)
    assert words in refused.value.message
    assert refused.value.hint == saves.DISCARD.format(name="web")


@pytest.mark.parametrize(
    ("purpose", "age", "fresh"),
    [
        (Purpose.UPGRADE, 0, True),
        (Purpose.UPGRADE, validate.FRESH_SECONDS + 1, False),
        (Purpose.UPGRADE, -3600, False),
        (Purpose.SAVE, 0, False),
    ],
)
def test_an_upgrade_that_was_interrupted_just_now(tmp_path: Path, purpose: Purpose, age: float, fresh: bool) -> None:
    one = a_record(tmp_path, purpose=purpose)
    then = time.time() - age
    os.utime(one.state_path, (then, then))
    assert validate.fresh(one) == fresh
    one.state_path.unlink()
    assert not validate.fresh(one)


def test_a_device_is_known_by_a_part_of_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its inode and its times are others after each boot."""
    monkeypatch.setattr(dax, "size", lambda _: 4096)
    monkeypatch.setattr(dax, "sample", lambda _: "as it was")
    one = a_record(tmp_path)
    saved(ram=(RamFile("/dev/zero", "/dev/zero", ram_files.identity("/dev/zero")),))(tmp_path, one)
    validate.look(one, QEMU)

    monkeypatch.setattr(dax, "sample", lambda _: "another")
    with pytest.raises(validate.Unfit, match="its RAM on /dev/zero was written to since"):
        validate.look(one, QEMU)


def test_xml_that_cannot_be_understood(tmp_path: Path) -> None:
    one = a_record(tmp_path)
    saved(xml="<domain")(tmp_path, one)
    with pytest.raises(ParseError):
        validate.look(one, QEMU)
