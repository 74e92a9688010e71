"""A kill in the middle of making or removing what is saved leaves nothing that is in anybody's way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from virtcpr.actions.records import saves
from virtcpr.actions.records.saves import RECORD, STATE
from virtcpr.host.files import ram_files
from virtcpr.host.processes import guard

UUID, OTHER = "01234567-89ab-4def-8123-456789abcdef", "11234567-89ab-4def-8123-456789abcdef"


@pytest.mark.parametrize("name", [RECORD, STATE])
def test_a_record_or_a_state_alone_is_looked_at(tmp_path: Path, name: str) -> None:
    (tmp_path / UUID).mkdir()
    (tmp_path / UUID / name).write_text("")

    saves.sweep(tmp_path)

    assert saves.waiting(tmp_path) == [UUID]
    assert [uuid for uuid, _ in saves.broken(tmp_path)] == [UUID]


def test_a_link_that_leads_nowhere_is_a_record_too(tmp_path: Path) -> None:
    (tmp_path / UUID).mkdir()
    (tmp_path / UUID / RECORD).symlink_to("nowhere")
    assert saves.waiting(tmp_path) == [UUID]


def test_an_empty_directory_is_nobodys(tmp_path: Path) -> None:
    for uuid in (UUID, OTHER):
        (tmp_path / uuid).mkdir()
    (tmp_path / OTHER / f"{RECORD}.virtcpr").write_text("{")  # killed in the middle of the first write
    assert (saves.waiting(tmp_path), saves.broken(tmp_path)) == ([], [])

    saves.sweep(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_nothing_was_ever_saved(tmp_path: Path) -> None:
    saves.sweep(tmp_path / "none")
    assert saves.waiting(tmp_path / "none") == []


@pytest.mark.parametrize("linked", [True, False])
def test_a_directory_of_kept_ram_goes_with_or_without_its_file(tmp_path: Path, linked: bool) -> None:
    kept = tmp_path / f"virtcpr-{UUID}" / "pc.ram"
    kept.parent.mkdir()
    if linked:
        kept.write_text("")

    ram_files.forget(os.fspath(kept))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("text", "told"), [('{"name": "libvirtd"}', {"name": "libvirtd"}), ("{", None), (None, None)])
def test_how_the_daemon_is_started_is_known_where_a_guardian_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, told: object
) -> None:
    path = tmp_path / "guardian.json"
    monkeypatch.setattr(guard, "RECIPE", path)
    if text is not None:
        path.write_text(text)
    assert guard.recipe() == told
