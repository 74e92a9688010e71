"""The command line run in this process, with a fake behind it."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.contract.fake import FakeBackend
from virtcpr.cli.app import run

GOLDEN = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """stdout, which must be one JSON object and nothing else."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


class Tty(io.StringIO):
    """Looks like a terminal to whoever asks."""

    def isatty(self) -> bool:
        return True


class Typed(io.TextIOWrapper):
    """A terminal on which this was typed, and then Ctrl-D."""

    def __init__(self, text: str) -> None:
        theirs, ours = os.pipe()
        os.write(ours, text.encode())
        os.close(ours)
        super().__init__(io.BufferedReader(io.FileIO(theirs)))

    def isatty(self) -> bool:
        return True


Cli = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("NO_COLOR", "FORCE_COLOR", "JOURNAL_STREAM", "COLUMNS", "LIBVIRT_DEFAULT_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    handlers, level = logging.getLogger().handlers[:], logging.getLogger("virtcpr").level
    yield
    logging.getLogger().handlers[:] = handlers
    logging.getLogger("virtcpr").setLevel(level)  # -q would silence the tests after this one


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run ``virtcpr ARGS`` on ``backend``; ``typed`` is typed on a terminal, None: there is no terminal."""

    def call(*args: str, backend: FakeBackend | None = None, typed: str | None = None) -> Outcome:
        capsys.readouterr()
        err: Tty | None = None
        monkeypatch.setattr("sys.stdin", io.StringIO() if typed is None else Typed(typed))
        if typed is not None:
            err = Tty()
            monkeypatch.setattr("sys.stderr", err)
        code = run(args, backend or FakeBackend())
        out, written = capsys.readouterr()
        return Outcome(int(code), out, err.getvalue() if err else written)

    return call


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compare with golden/NAME.  ``VIRTCPR_GOLDEN=write make unit`` writes them: look at the difference."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if os.environ.get("VIRTCPR_GOLDEN") == "write":
            path.write_text(text)
        assert text == path.read_text()

    return compare
