"""What QEMU answers to libvirt's questions, recorded in the lab: old while the guest ran, new waiting for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.paths import DATA
from virtcpr.plan.reconnect import QUERIES, Answers

RECORDED: dict[str, dict[str, Any]] = json.loads((DATA / "reconnect.json").read_text())


def key(command: str, arguments: Mapping[str, Any]) -> str:
    return f"{command} {arguments['path']}" if "path" in arguments else command


def answers(side: str, changed: Mapping[str, object] | None = None) -> Answers:
    """Read as virtcpr reads them; ``changed``: other answers than the recorded ones."""
    said: Mapping[str, object] = {**RECORDED[side], **(changed or {})}
    asked = ((query, said.get(key(query.command, query.arguments))) for query in QUERIES)
    return {query.what: query.reads(answer) for query, answer in asked if answer is not None}
