"""What a shell is offered at the press of a key; typer's part of it is typer's to test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.conftest import Cli, Outcome
from tests.contract.fake import FakeBackend
from virtcpr.cli import completion
from virtcpr.errors import HostError

Complete = Callable[..., Outcome]


@pytest.fixture
def complete(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Complete:
    """What bash gets for a line, whose last word is completed."""

    def call(line: str, backend: FakeBackend | None = None) -> Outcome:
        monkeypatch.setenv("_VIRTCPR_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        return cli(backend=backend)

    return call


@pytest.mark.parametrize(
    ("line", "which"),
    [
        ("list ", "all"),
        ("check ", "all"),
        ("prepare ", "all"),
        ("history ", "all"),
        ("plan ", "running"),
        ("upgrade --parallel 2 ", "running"),
        ("save ", "running"),
        ("restore ", "saved"),
        ("recover ", "interrupted"),
    ],
)
def test_names_of_domains(complete: Complete, line: str, which: str) -> None:
    backend = FakeBackend()
    outcome = complete(f"virtcpr {line}", backend)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.split() == ["db", "mail", "web"], "none that a shell would take apart, or run"
    assert backend.named == [(None, which)]


def test_names_that_begin_so_and_are_not_there_yet(complete: Complete) -> None:
    assert complete("virtcpr upgrade w").out.split() == ["web"]
    assert complete("virtcpr upgrade web ").out.split() == ["db", "mail"]


def test_the_daemon_that_was_named(complete: Complete) -> None:
    backend = FakeBackend()
    complete("virtcpr -c qemu:///system save ", backend)
    assert backend.named == [("qemu:///system", "running")]


@pytest.mark.parametrize("error", [HostError("libvirt's daemon doesn't answer"), RuntimeError("a defect"), OSError()])
def test_whatever_goes_wrong_is_silent(complete: Complete, error: Exception) -> None:
    def fail() -> None:
        raise error

    outcome = complete("virtcpr upgrade ", FakeBackend(opening=fail))
    assert (outcome.out.strip(), outcome.err) == ("", "")


def test_a_shell_that_asks_wrongly_gets_silence(complete: Complete, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.setenv("_VIRTCPR_COMPLETE", "complete_bash")
    outcome = cli()
    assert (outcome.code, outcome.out, outcome.err) == (1, "", "")


def test_commands_modes_and_emulators(complete: Complete, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"upgrade", "history"} <= set(complete("virtcpr ").out.split())
    assert complete("virtcpr hooks ").out.split() == ["install", "remove", "status"]
    assert complete("virtcpr upgrade --mode ").out.split() == ["auto", "transfer", "parked", "live", "reboot"]
    for name in ("qemu-system-x86_64", "qemu-system-arm", "qemu-img"):
        (tmp_path / name).touch()
    monkeypatch.setattr(completion, "EMULATORS", f"{tmp_path}/qemu-system-")
    arm, x86 = (f"{tmp_path}/qemu-system-{name}" for name in ("arm", "x86_64"))
    assert complete("virtcpr upgrade --emulator ").out.split() == [arm, x86]
    assert complete(f"virtcpr upgrade --emulator {x86[:-3]}").out.split() == [x86]
    assert complete("virtcpr upgrade --emulator /opt/").out.split() == [], "the shell's own files"


def source(shell: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "_VIRTCPR_COMPLETE": f"source_{shell}"}
    command = [sys.executable, "-m", "virtcpr"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(shell: str) -> None:
    made = source(shell)
    assert made.returncode == 0
    assert "_VIRTCPR_COMPLETE=complete_" in made.stdout
    assert made.stdout[0] != "\n", "zsh takes it by its first line"
    assert "python" not in made.stdout, "it runs the command, wherever that is"
    assert (found := shutil.which(shell)) is None or not subprocess.run(
        [found, "-n"], input=made.stdout, text=True, check=True, capture_output=True
    ).stderr


def test_a_shell_that_is_not_known() -> None:
    made = source("csh")
    assert (made.returncode, made.stdout) == (1, "")
    assert "csh" in made.stderr


def test_completion_is_light() -> None:
    """It loads what a name needs, and nothing of a swap."""
    words = {"_VIRTCPR_COMPLETE": "complete_bash", "COMP_WORDS": "virtcpr restore ", "COMP_CWORD": "2"}
    program = (
        "import sys\nfrom virtcpr.__main__ import main\nsys.argv = ['virtcpr']\ncode = main()\n"
        "assert not {'libvirt', 'rich', 'asyncio', 'qemu'} & sys.modules.keys(), sys.modules.keys()\nsys.exit(code)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env={**os.environ, **words}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def complete_in_bash(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """What bash itself asks for: it takes each ``:`` for a word, and gives the words on lines."""

    def call(*words: str, backend: FakeBackend | None = None) -> Outcome:
        monkeypatch.setenv("_VIRTCPR_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", "\n".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        return cli(backend=backend)

    return call


def test_names_of_domains_after_a_uri(complete_in_bash: Callable[..., Outcome]) -> None:
    backend = FakeBackend()
    outcome = complete_in_bash("virtcpr", "-c", "qemu", ":", "///session", "upgrade", "we", backend=backend)
    assert (outcome.code, outcome.out.split()) == (0, ["web"])
    assert backend.named == [("qemu:///session", "running")]


def test_uris(complete: Complete, complete_in_bash: Callable[..., Outcome]) -> None:
    assert complete("virtcpr -c ").out.split() == ["qemu:///system", "qemu:///session"]
    assert complete("virtcpr -c qemu:///se").out.split() == ["qemu:///session"], "':' breaks no words there"
    # bash replaces what comes after the ':' alone.
    assert complete_in_bash("virtcpr", "-c", "qemu", ":", "///s").out.split() == ["///system", "///session"]
    assert complete_in_bash("virtcpr", "-c", "qemu", ":").out.split() == ["///system", "///session"]
