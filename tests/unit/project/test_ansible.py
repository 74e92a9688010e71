"""The modules of the Ansible collection, run as Ansible runs them, with a virtcpr that answers as it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.paths import ROOT
from virtcpr import __version__

COLLECTION = ROOT / "ansible"
Task = Callable[..., tuple[dict[str, Any], str]]
SIDES = {"from": {"version": "10.0.2", "pid": 1}, "to": {"version": "10.0.13", "pid": None}}


def domain(name: str, **said: Any) -> dict[str, Any]:
    return {"name": name, **SIDES, **said}


def answer(code: int, *domains: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"schema": 1, "exit_code": code, "domains": list(domains), **more}


@pytest.fixture
def task(tmp_path: Path) -> Task:
    place = tmp_path / "ansible_collections/virtcpr"
    place.mkdir(parents=True)
    (place / "virtcpr").symlink_to(COLLECTION)
    program = tmp_path / "virtcpr"
    program.write_text(f'#!/bin/sh\necho "$*" > {tmp_path}/asked\ncat {tmp_path}/answer\n')
    program.chmod(0o755)

    def run(module: str, said: object, *, check: bool = False, **arguments: Any) -> tuple[dict[str, Any], str]:
        """What the module returns, and how virtcpr was called."""
        (tmp_path / "answer").write_text(said if isinstance(said, str) else json.dumps(said))
        given = {"executable": str(program), "_ansible_check_mode": check, **arguments}
        done = subprocess.run(
            [sys.executable, COLLECTION / f"plugins/modules/virtcpr_{module}.py"],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": given}),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        asked = tmp_path / "asked"
        return json.loads(done.stdout), asked.read_text().strip() if asked.exists() else ""

    return run


def test_upgrade(task: Task) -> None:
    said = answer(0, domain("web", result="upgraded"), domain("db", result="current"), blackout_ms=812.0)
    asking = {"all": True, "canary": ["1", "web"], "wave": 3, "exclude": ["db*"], "max_blackout_s": 5}
    result, asked = task("upgrade", said, **asking, watch="5m", go_back="wave")
    assert asked == (
        "-q upgrade -o json --yes --mode auto --fallback none --max-blackout 5.0 --wave 3 --watch 5m --go-back wave "
        "--exclude db* --canary 1 --canary web --all"
    )
    assert (result["changed"], result["msg"]) == (True, "1 upgraded (web), 1 current (db)")
    assert result["diff"] == {"before": "web: 10.0.2\n", "after": "web: 10.0.13\n"}
    assert (result["rc"], result["blackout_ms"]) == (0, 812.0)


def test_a_second_run_changes_nothing(task: Task) -> None:
    result, asked = task("upgrade", answer(0, domain("web", result="current")), domains=["web"])
    assert (result["changed"], "failed" in result) == (False, False)
    assert asked.endswith(" -- web")


def test_check_mode_plans(task: Task) -> None:
    said = answer(0, domain("web", action="move"), domain("db", action="current"))
    result, asked = task("upgrade", said, check=True, all=True, canary=["1"], wave=2)
    assert asked == "-q plan -o json --mode auto --fallback none --all"
    assert (result["changed"], result["msg"]) == (True, "1 move (web), 1 current (db)")


@pytest.mark.parametrize(
    ("word", "ignored", "fails"),
    [("blocked", False, True), ("blocked", True, False), ("rolled-back", True, True), ("unknown", True, True)],
)
def test_what_was_not_moved_is_a_failure(task: Task, word: str, ignored: bool, fails: bool) -> None:
    said = answer(4, domain("web", result="upgraded"), domain("db", result=word))
    result, _ = task("upgrade", said, all=True, ignore_blocked=ignored)
    assert (result.get("failed", False), result["changed"]) == (fails, True)
    assert result["domains"][1]["result"] == word


def test_undo(task: Task) -> None:
    said = answer(0, domain("web", result="upgraded"), notes=["db was moved again"])
    result, asked = task("undo", said, batch=7)
    assert asked == "-q undo -o json --yes 7"
    assert (result["changed"], result["notes"]) == (True, ["db was moved again"])
    result, asked = task("undo", answer(0, domain("web", action="move")), check=True, rehearse=False)
    assert (result["changed"], asked) == (True, "-q undo -o json --no-rehearse --dry-run")
    result, asked = task("undo", answer(4, domain("web", result="blocked")))
    assert (result["failed"], result["changed"]) == (True, False)


def test_info(task: Task) -> None:
    said = answer(0, domain("web", outdated=True), domain("off", outdated=None))
    result, asked = task("info", said)
    assert (result["changed"], result["outdated"], asked) == (False, ["web"], "-q list -o json --")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"from_archive": True}, "--from-archive"),
        ({"packages": ["/a.deb", "/b.deb"]}, "--package /a.deb --package /b.deb"),
        ({"emulator": "/opt/qemu"}, "--emulator /opt/qemu"),
    ],
)
def test_certify(task: Task, source: dict[str, Any], words: str) -> None:
    result, asked = task("certify", answer(4, domain("web", result="no-go")), all=True, **source)
    assert asked == f"-q certify -o json {words} --mode auto --all"
    assert (result["failed"], result["changed"], result["msg"]) == (True, False, "1 no-go (web)")
    less = {"all": True, "exclude": ["db*"], "fail_on_no_go": False}
    result, asked = task("certify", answer(4, domain("web", result="no-go")), **less, **source)
    assert asked == f"-q certify -o json {words} --mode auto --exclude db* --all"
    assert "failed" not in result


def test_certify_needs_one_candidate(task: Task) -> None:
    result, asked = task("certify", answer(0), all=True, from_archive=True, emulator="/opt/qemu")
    assert (result["failed"], asked) == (True, "")


def test_prepare(task: Task) -> None:
    said = answer(0, domain("web", result="prepared", diff="-a\n+b\n"), domain("db", result="unchanged", diff=""))
    result, asked = task("prepare", said, all=True, live=True)
    assert asked == "-q prepare -o json --mode transfer --yes --live --all"
    assert (result["changed"], result["diff"]) == (True, [{"prepared": "-a\n+b\n"}])
    result, asked = task("prepare", said, check=True, all=True, live=True, state="restored")
    assert asked == "-q prepare -o json --mode transfer --undo --dry-run --all"


@pytest.mark.parametrize(
    ("code", "word", "moved", "ignored", "fails"),
    [
        (3, "blocked", "upgraded", True, False),
        (3, "blocked", "upgraded", False, True),
        (3, "prepared", "blocked", True, False),
        (3, "failed", "upgraded", True, True),
        (3, "prepared", "rolled-back", True, True),
        (6, "prepared", "upgraded", True, True),
        (130, "prepared", "upgraded", True, True),
    ],
)
def test_preparing_some(task: Task, code: int, word: str, moved: str, *, ignored: bool, fails: bool) -> None:
    said = answer(code, domain("web", result=word, diff=""), domain("db", result="prepared", diff=""))
    said["moves"] = {"domains": [domain("db", result=moved)]}
    result, _ = task("prepare", said, all=True, live=True, ignore_blocked=ignored)
    assert result.get("failed", False) == fails


def test_without_libvirts_daemon_nothing_is_well(task: Task) -> None:
    """Every guest was moved, and the daemon couldn't be started again."""
    result, _ = task("upgrade", answer(6, domain("web", result="upgraded")), all=True)
    assert (result["failed"], result["changed"]) == (True, True)


def test_a_command_that_failed_as_a_whole(task: Task) -> None:
    said = {"exit_code": 1, "domains": [], "error": {"code": "host", "message": "no daemon", "hint": "start it"}}
    result, _ = task("upgrade", said, all=True)
    assert (result["failed"], result["msg"], result["hint"]) == (True, "no daemon", "start it")
    result, _ = task("upgrade", "nonsense", all=True)
    assert (result["failed"], "gave no JSON" in result["msg"]) == (True, True)


def test_the_collection_has_virtcprs_version() -> None:
    """In the words of semantic versioning."""
    version = yaml.safe_load((COLLECTION / "galaxy.yml").read_text())["version"]
    assert version == __version__.replace(".dev", "-dev")


@pytest.mark.parametrize("path", sorted((COLLECTION / "tests/sanity").glob("ignore-*.txt")), ids=lambda path: path.name)
def test_every_module_is_excused_for_its_licence(path: Path) -> None:
    """ansible-test sanity wants the GPL."""
    excused = {line.split()[0] for line in path.read_text().splitlines() if "missing-gplv3-license" in line}
    assert excused == {f"plugins/modules/{module.name}" for module in (COLLECTION / "plugins/modules").glob("*.py")}
