"""Fixtures of several modules."""

from __future__ import annotations

from tests.unit.support.reboot_stage import children, digested, reboot_stage
from tests.unit.support.transfer_stage import processes, stage
from tests.unit.support.upgrades import upgrades

__all__ = ["children", "digested", "processes", "reboot_stage", "stage", "upgrades"]
