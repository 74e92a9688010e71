"""Fixtures of several modules."""

from __future__ import annotations

from tests.unit.stage import processes, stage

__all__ = ["processes", "stage"]
