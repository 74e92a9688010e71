"""The JSON schema, and a document held against it."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import jsonschema

from tests.contract.conftest import Outcome

SCHEMA: dict[str, Any] = json.loads((files("virtcpr.cli") / "schema-1.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def checked(outcome: Outcome) -> dict[str, Any]:
    """The object, after comparing it with the schema and the exit code."""
    VALIDATOR.validate(outcome.json)
    assert outcome.json["exit_code"] == outcome.code
    return outcome.json
