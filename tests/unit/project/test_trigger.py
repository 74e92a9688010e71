"""packages/trigger: what package managers run of ours.  It notes, starts the timer, and never fails."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.paths import ROOT

TRIGGER = ROOT / "packages/trigger"


@dataclass
class Host:
    """Directories that stand in for /run, and a systemctl that writes down what it was told."""

    root: Path

    @property
    def run(self) -> Path:
        return self.root / "run/virtcpr"

    @property
    def told(self) -> list[str]:
        log = self.root / "systemctl.log"
        return log.read_text().splitlines() if log.exists() else []

    def trigger(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        script = TRIGGER.read_text().replace("/run/", f"{self.root}/run/")
        path = {"PATH": f"{self.root}/bin"}
        return subprocess.run(
            ["/bin/sh", "-c", script, "trigger", *arguments], env=path, capture_output=True, text=True, check=False
        )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    for tool in ("mkdir", "mv", "rm"):  # and no systemctl of the host that runs the test
        (tmp_path / "bin" / tool).symlink_to(f"/bin/{tool}")
    systemctl = tmp_path / "bin/systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/systemctl.log\necho noise\nexit 1\n')
    systemctl.chmod(0o755)
    return Host(tmp_path)


def quiet(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_notes_and_starts_the_timer(host: Host) -> None:
    quiet(host.trigger("/usr/bin/qemu-system-x86_64", "/usr/sbin/libvirtd"))
    assert (host.run / "pending").read_text() == "/usr/bin/qemu-system-x86_64 /usr/sbin/libvirtd\n"
    assert host.run.stat().st_mode & 0o777 == 0o700
    assert (host.run / "pending").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in host.run.iterdir()] == ["pending"]
    assert host.told == ["--no-block start virtcpr-auto.timer"]


def test_each_note_is_a_new_file(host: Host) -> None:
    """So that one that comes while the last is being worked on isn't taken for it."""
    quiet(host.trigger("first"))
    with (host.run / "pending").open() as first:
        quiet(host.trigger())
        assert (first.read(), (host.run / "pending").read_text()) == ("first\n", "packages\n")
    assert len(host.told) == 2


def test_without_systemd_it_does_nothing(host: Host) -> None:
    (host.root / "run/systemd/system").rmdir()
    quiet(host.trigger("x"))
    assert not host.run.exists()
    assert host.told == []


def test_it_never_fails(host: Host) -> None:
    host.run.write_text("in the way")
    quiet(host.trigger("x"))
    assert host.told == []


def test_without_systemctl(host: Host) -> None:
    (host.root / "bin/systemctl").unlink()
    quiet(host.trigger("x"))
    assert (host.run / "pending").exists()


def test_the_units_belong_together() -> None:
    timer, service = ((ROOT / "systemd" / f"virtcpr-auto.{kind}").read_text() for kind in ("timer", "service"))
    assert "Unit=virtcpr-auto.service" in timer
    assert "[Install]" not in timer + service
    assert "start virtcpr-auto.timer" in TRIGGER.read_text()
    assert "ExecStart=virtcpr auto --pending" in service
    assert TRIGGER.stat().st_mode & 0o111
