"""Fixtures of several modules."""

from __future__ import annotations

from tests.unit.support.reboot_stage import children, reboot_stage
from tests.unit.support.transfer_stage import processes, stage

__all__ = ["children", "processes", "reboot_stage", "stage"]
