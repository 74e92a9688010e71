"""Old QEMU gets its guest back, and its settings once it has cleaned up after the migration; others' are left alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.unit.support.transfer_stage import FakeMonitor, Stage
from virtcpr.actions.transfer import ownership
from virtcpr.errors import HostError, RolledBack

SETTINGS = ["old migrate-set-parameters", "old migrate-set-capabilities"]


def given_back(stage: Stage) -> str:
    async def both() -> str:
        guest, old = stage.plan.guest, FakeMonitor(stage.world.old, "office (old QEMU)")
        return await ownership.resume_old(guest, old) + await ownership.put_settings_back(guest, old)

    return asyncio.run(both())


def settings(stage: Stage) -> list[str]:
    return [said for said in stage.world.said if said.startswith("old migrate-set")]


@pytest.mark.parametrize("status", ["failed", "completed", "cancelled"])
def test_the_settings_of_a_migration_that_is_over_stay_until_qemu_has_cleaned_up(stage: Stage, status: str) -> None:
    """With other ones an assertion of QEMU's would fail, and the guest be gone."""
    old = stage.world.old
    old.migration, old.mode, old.cleaning = status, "cpr-transfer", 4
    assert given_back(stage) == "runs on"
    assert (old.mode, old.cleaning, settings(stage)) == ("normal", 0, SETTINGS)
    assert old.process.alive()
    assert "old migrate_cancel" not in stage.world.said


def test_where_qemu_never_cleans_up_they_stay_and_that_is_said(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "MOVE_SECONDS", 0.1)
    old = stage.world.old
    old.migration, old.mode, old.cleaning = "failed", "cpr-transfer", 1 << 30
    said = given_back(stage)
    assert said == "runs on (QEMU isn't done with its migration, whose settings stay as they are)"
    assert (old.mode, settings(stage)) == ("cpr-transfer", [])
    assert old.process.alive()


def test_a_migration_that_is_failing_is_not_cancelled(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU 11 says so while it cleans up."""
    monkeypatch.setattr(ownership, "MOVE_SECONDS", 0.1)
    old = stage.world.old
    old.migration = "failing"
    with pytest.raises(HostError, match="doesn't end its migration"):
        given_back(stage)
    assert "old migrate_cancel" not in stage.world.said


@pytest.mark.parametrize(("status", "said"), [("paused", "is suspended as before"), ("running", "runs on")])
def test_one_that_its_user_had_suspended_and_maybe_resumed(stage: Stage, status: str, said: str) -> None:
    old = stage.world.old
    old.migration, old.mode, old.status = "failed", "cpr-transfer", status
    guest = replace(stage.plan.guest, runs=False)
    assert asyncio.run(ownership.resume_old(guest, FakeMonitor(old, "office (old QEMU)"))) == said
    assert old.status == status


@pytest.mark.parametrize(("migration", "cleaning"), [("active", 0), ("failed", 1 << 30)])
def test_nothing_is_set_while_somebody_elses_migration_needs_it(stage: Stage, migration: str, cleaning: int) -> None:
    """A user's own, or one of libvirt's that has just failed: it goes on as if nothing had been asked for."""
    old = stage.world.old
    old.migration, old.cleaning = migration, cleaning
    error = stage.run()
    assert isinstance(error, RolledBack)
    assert "QEMU is busy with another migration" in error.message
    assert error.hint == "try again when it is over; virsh domjobinfo d1 shows it, if it is libvirt's"
    assert settings(stage) == []
    assert (old.migration, old.status) == (migration, "running")
    assert not stage.world.new.process.alive()
