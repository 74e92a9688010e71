"""The record of a saved guest: whole, its owner's alone, durable where it must be, trusted only when sound."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support.saved_guest import UUID, a_record
from virtcpr.actions.records import saves
from virtcpr.actions.records.saves import RamFile, Record
from virtcpr.actions.records.unsettled import refuse_unsettled_saves
from virtcpr.errors import HostError, Unsettled
from virtcpr.plan.reboot.recovery import Purpose, Stage


def path_of(one: Record) -> Path:
    return one.directory / "record.json"


def body(one: Record) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path_of(one).read_text())
    return document


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("stage", Stage)
def test_it_is_read_as_it_was_written(tmp_path: Path, stage: Stage, purpose: Purpose) -> None:
    one = a_record(tmp_path, stage, purpose=purpose, wake=True, new_pid=7, new_started="9", emulator="/opt/qemu")
    again = saves.load(UUID, tmp_path / "saved")
    assert again.saved == one.saved
    assert again.state_path == one.state_path
    assert (again.saved.stage, again.saved.purpose) == (stage, purpose)


def test_reading_its_xml_leaves_it_as_it_was(tmp_path: Path) -> None:
    one = a_record(tmp_path)
    before = body(one)
    assert one.saved.live is one.saved.live
    assert one.saved.live.emulator == "/usr/bin/qemu"
    one.write(one.saved.stage)
    assert body(one) == before
    assert one.saved == saves.load(UUID, tmp_path / "saved").saved


# The members of version 0.1.0's records: a package upgrade must not lose a guest that it has saved.
MEMBERS_0_1 = {
    "schema", "sha256", "name", "uuid", "purpose", "stage", "xml", "taints", "runs", "wake", "sleeps", "order", "qemu",
    "emulator", "status_path", "old_pid", "old_started", "host", "boot", "saved_at", "ignores_shared", "return_path",
    "asked", "ram", "state", "images", "new_pid", "new_started",
}  # fmt: skip


def test_a_record_of_the_first_version(tmp_path: Path) -> None:
    one = a_record(tmp_path)
    known = {name: value for name, value in body(one).items() if name in MEMBERS_0_1 - {"sha256"}}
    assert known.keys() == MEMBERS_0_1 - {"sha256"}
    path_of(one).write_text(json.dumps({**known, "sha256": saves._checksum(known)}))
    again = saves.load(UUID, tmp_path / "saved").saved
    assert again == replace(one.saved, devices={}, plain=None)


def test_before_there_is_a_state(tmp_path: Path) -> None:
    one = a_record(tmp_path, Stage.SAVING, state=None, images=None, ram=())
    assert saves.load(UUID, tmp_path / "saved").saved == one.saved


def test_names_that_are_no_utf_8(tmp_path: Path) -> None:
    odd = os.fsdecode(b"/srv/\xff")
    one = a_record(tmp_path, images={odd: (1, 2)})
    assert saves.load(UUID, tmp_path / "saved").saved == one.saved


def test_it_is_its_owners_alone(tmp_path: Path) -> None:
    """There are secrets in the XML."""
    (tmp_path / "saved" / UUID).mkdir(parents=True, mode=0o755)
    one = a_record(tmp_path)
    modes = {path.stat().st_mode & 0o777 for path in (one.directory, one.directory.parent)}
    assert (modes, path_of(one).stat().st_mode & 0o777) == ({0o700}, 0o600)


def test_a_stage_replaces_the_one_before(tmp_path: Path) -> None:
    one = a_record(tmp_path, Stage.SAVING)
    one.write(Stage.SAVED, qemu="10.0.13")
    assert (one.saved.stage, one.saved.qemu) == (Stage.SAVED, "10.0.13")
    assert saves.load(UUID, tmp_path / "saved").saved == one.saved
    assert sorted(path.name for path in one.directory.iterdir()) == ["record.json", "state"]


@pytest.mark.parametrize(("purpose", "durable"), [(Purpose.SAVE, True), (Purpose.UPGRADE, False)])
def test_what_outlives_the_host_is_on_its_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, purpose: Purpose, durable: bool
) -> None:
    """The file, its name in the directory, and the directory's own name."""
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    a_record(tmp_path, purpose=purpose)
    saved = tmp_path / "saved"
    wanted = {str(saved / UUID / "record.json.virtcpr"), str(saved / UUID), str(saved), str(tmp_path)}
    assert wanted <= set(synced) if durable else synced == []


def test_where_it_cannot_be_written_the_stage_before_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = a_record(tmp_path, Stage.STARTING)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HostError, match=r"record\.json can't be written: No space left on device"):
        one.write(Stage.RESUMING)
    assert one.saved.stage is Stage.STARTING
    assert saves.load(UUID, tmp_path / "saved").saved.stage is Stage.STARTING


def test_where_its_directory_cannot_be_made(tmp_path: Path) -> None:
    one = a_record(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match=r"file/.* can't be created: Not a directory"):
        Record(one.saved, tmp_path / "file").write(Stage.SAVED)


# Records that aren't sound.


def changed(**members: object) -> Callable[[Record], None]:
    """By somebody who knows how: the checksum is right."""

    def change(one: Record) -> None:
        document = {**body(one), **members}
        document.pop("sha256")
        document["sha256"] = saves._checksum(document)
        path_of(one).write_text(json.dumps(document))

    return change


def text(old: str, new: str) -> Callable[[Record], None]:
    def change(one: Record) -> None:
        assert old in path_of(one).read_text()
        path_of(one).write_text(path_of(one).read_text().replace(old, new, 1))

    return change


def linked(one: Record) -> None:
    path_of(one).rename(one.directory / "elsewhere")
    path_of(one).symlink_to("elsewhere")


def a_directory(one: Record) -> None:
    path_of(one).unlink()
    path_of(one).mkdir()


BAD: dict[str, tuple[Callable[[Record], object], str]] = {
    "gone": (lambda one: path_of(one).unlink(), r"can't be read: No such file"),
    "link": (linked, r"can't be read: Too many levels of symbolic links"),
    "directory": (a_directory, r"can't be read|isn't trusted"),
    "readable": (
        lambda one: path_of(one).chmod(0o640),
        r"record\.json isn't trusted: another user owns it, or can access it",
    ),
    "empty": (lambda one: path_of(one).write_text(""), r"can't be understood: Expecting value"),
    "cut off": (lambda one: path_of(one).write_text(path_of(one).read_text()[:500]), r"can't be understood"),
    "bytes": (lambda one: path_of(one).write_bytes(b"\xff\xfe"), r"can't be understood: 'utf-8'"),
    "list": (lambda one: path_of(one).write_text("[]"), r"can't be understood"),
    "other schema": (changed(schema=2), r"can't be understood: schema 2, this virtcpr knows 1"),
    "damaged": (text('"runs": true', '"runs": false'), r"its checksum is wrong: it was changed or damaged"),
    "foreign": (changed(uuid=UUID.replace("1", "2")), r"can't be understood: it belongs to domain 6b2"),
    "odd stage": (changed(stage="parked"), r"can't be understood: 'parked' is not a valid Stage"),
    "odd ram": (changed(ram=[{"path": "/x"}]), r"can't be understood: 'kept'"),
    "odd state": (changed(state={"size": 1}), r"can't be understood: .*sha256"),
}


@pytest.mark.parametrize("how", BAD)
def test_one_that_is_not_sound_is_refused(tmp_path: Path, how: str) -> None:
    one = a_record(tmp_path)
    change, words = BAD[how]
    change(one)
    with pytest.raises(HostError, match=words) as refused:
        saves.load(UUID, tmp_path / "saved")
    assert refused.value.hint
    if "trusted" not in refused.value.message:
        assert refused.value.hint == saves.DISCARD.format(name=UUID)
    assert "<domain" not in refused.value.message  # it has secrets
    directory = tmp_path / "saved"
    assert saves.waiting(directory) == [UUID]
    assert saves.readable(directory) == []
    assert [uuid for uuid, _ in saves.broken(directory)] == [UUID]
    assert one.state_path.exists()


def test_a_missing_member(tmp_path: Path) -> None:
    one = a_record(tmp_path)
    document = body(one)
    del document["status_path"], document["sha256"]
    document["sha256"] = saves._checksum(document)
    path_of(one).write_text(json.dumps(document))
    with pytest.raises(HostError, match="can't be understood: 'status_path'"):
        saves.load(UUID, tmp_path / "saved")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_somebody_elses_is_not_trusted(tmp_path: Path) -> None:
    os.chown(path_of(a_record(tmp_path)), 12345, 0)
    with pytest.raises(HostError, match="isn't trusted: another user owns it, or can access it"):
        saves.load(UUID, tmp_path / "saved")


# Away again.


def test_removing_leaves_nothing(tmp_path: Path) -> None:
    one = a_record(tmp_path)
    one.remove()
    one.remove()
    assert list((tmp_path / "saved").iterdir()) == []


def test_removing_takes_the_state_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is killed in between leaves a record that says what is to be done."""
    one = a_record(tmp_path, Stage.RESUMING)

    def no(path: Path, missing_ok: bool = False) -> None:
        if path.name == "record.json":
            raise OSError(30, "Read-only file system")
        os.unlink(path)

    monkeypatch.setattr(Path, "unlink", no)
    with pytest.raises(HostError, match=rf"web: {re.escape(str(one.directory))} can't be removed: Read-only") as raised:
        one.remove()
    assert raised.value.hint == "remove it by hand"
    assert saves.load(UUID, tmp_path / "saved").saved.stage is Stage.RESUMING
    assert not one.state_path.exists()


def test_an_empty_directory_is_no_saved_guest(tmp_path: Path) -> None:
    """virtcpr was killed when it had made it."""
    (tmp_path / "saved" / UUID).mkdir(parents=True)
    (tmp_path / "saved/note").touch()
    assert saves.waiting(tmp_path / "saved") == []
    assert saves.waiting(tmp_path / "none") == []
    with pytest.raises(HostError, match=r"note can't be read: Not a directory") as raised:
        saves.waiting(tmp_path / "saved/note")
    assert raised.value.hint == "run it with sudo"


def test_only_those_that_wait_for_restore_are_settled(tmp_path: Path) -> None:
    directory = tmp_path / "saved"
    one = a_record(tmp_path, Stage.SAVED)
    refuse_unsettled_saves(directory)
    for stage, purpose in [(s, p) for s in Stage for p in Purpose if (s, p) != (Stage.SAVED, Purpose.SAVE)]:
        one.saved = replace(one.saved, purpose=purpose)
        one.write(stage)
        with pytest.raises(Unsettled, match="a save or restore of web was interrupted and isn't settled") as raised:
            refuse_unsettled_saves(directory)
        assert "virtcpr recover --all" in str(raised.value.hint)


@pytest.mark.parametrize("damage", [False, True])
def test_discarding_one_that_cannot_be_understood_frees_its_ram(tmp_path: Path, damage: bool) -> None:
    """A kept file on tmpfs would be memory that nobody has."""
    place = tmp_path / "größe"
    kept = place / f"virtcpr-{UUID}/pc.ram"
    kept.parent.mkdir(parents=True)
    kept.touch()
    other = tmp_path / "other/pc.ram"
    other.parent.mkdir()
    other.touch()
    one = a_record(tmp_path)
    files = tuple(RamFile(str(path), str(path), one.saved.ram[0].identity) for path in (kept, other))
    one.write(Stage.SAVED, ram=files)
    if damage:
        path_of(one).write_text(path_of(one).read_text()[:-100])
    else:
        changed(schema=2)(one)
    saves.discard(UUID, tmp_path / "saved")
    assert saves.waiting(tmp_path / "saved") == []
    assert list(place.iterdir()) == []
    assert other.exists()


def test_discarding_what_is_not_trusted_removes_only_that(tmp_path: Path) -> None:
    kept = tmp_path / f"virtcpr-{UUID}/pc.ram"
    kept.parent.mkdir()
    kept.touch()
    one = a_record(tmp_path)
    one.write(Stage.SAVED, ram=(RamFile(str(kept), str(kept), one.saved.ram[0].identity),))
    path_of(one).chmod(0o666)
    saves.discard(UUID, tmp_path / "saved")
    assert kept.exists()
    assert saves.waiting(tmp_path / "saved") == []
