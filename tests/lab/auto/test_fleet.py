"""Three labs as three hosts, by the Ansible collection: in order, stopped by the first failure, idempotent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.lab.support import client
from tests.lab.support.client import shell
from tests.lab.support.guests import SMALL
from tests.lab.support.machine import Lab
from tests.paths import LAB, ROOT

pytestmark = pytest.mark.thorough
NAMES = ("alpha", "beta", "gamma")
GUEST = replace(SMALL, memory_mib=192, ram_mib=16)
SECONDS = 600
PACKAGES = [name for name in client.QEMU_PACKAGES if name.startswith("qemu-")]
HOOK = "/etc/virtcpr/hooks.d/10-backup"


@dataclass
class Fleet:
    """The labs by their hosts' names, and a directory with an inventory."""

    labs: dict[str, Lab]
    place: Path

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """Commands of ``client`` go to this host."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("VIRTCPR_LAB", str(self.labs[name].store))
            yield

    def pids(self) -> dict[str, int]:
        return {name: self._pid(name) for name in NAMES}

    def installed(self) -> dict[str, str]:
        """OLD, NEW or NEXT, by host."""
        return {name: self._release(name, "dpkg-query -Wf '${Version}' qemu-system-x86") for name in NAMES}

    def run_in(self) -> dict[str, str]:
        """The same of what the guests run in."""
        ask = 'virsh qemu-monitor-command small \'{"execute": "query-version"}\' | grep -o \'1:[^)"]*\''
        return {name: self._release(name, ask) for name in NAMES}

    def _release(self, name: str, script: str) -> str:
        with self.on(name):
            version = shell(script).strip()
            return next(release for release in client.RELEASES if client.versions()[release] == version)

    def _pid(self, name: str) -> int:
        with self.on(name):
            return client.pid(GUEST.name)

    def play(
        self, *arguments: str, playbook: str = "upgrade", **variables: Any
    ) -> tuple[int, str, dict[str, dict[str, int]]]:
        """Run the playbook: its exit code, what it printed, and the counts of each host."""
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(self.place),
            "ANSIBLE_CONNECTION_PLUGINS": str(LAB / "inventory"),
            "ANSIBLE_LOCAL_TEMP": str(self.place / "tmp"),
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
        }
        program = str(Path(sys.executable).parent / "ansible-playbook")
        command = [
            program,
            "-i",
            str(self.place / "hosts"),
            f"virtcpr.virtcpr.{playbook}",
            "-e",
            json.dumps(variables),
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment, check=False)
        return done.returncode, done.stdout + done.stderr, _recap(done.stdout)


def _recap(output: str) -> dict[str, dict[str, int]]:
    """``alpha : ok=5 changed=1 unreachable=0 …`` by host."""
    lines = output.rpartition("PLAY RECAP")[2].splitlines()
    rows = (line.split(":", 1) for line in lines if ":" in line and "ok=" in line)
    return {
        name.strip(): {key: int(number) for key, number in (pair.split("=") for pair in counts.split())}
        for name, counts in rows
    }


@pytest.fixture(scope="module")
def fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """OLD is installed on each, with a guest; apt has NEW in its cache."""
    place = tmp_path_factory.mktemp("fleet")
    (place / "ansible_collections/virtcpr").mkdir(parents=True)
    (place / "ansible_collections/virtcpr/virtcpr").symlink_to(ROOT / "ansible")
    owner = os.getpid()
    labs = {name: lab.another(owner, name) for name in NAMES}
    lines = [
        f"{name} ansible_connection=lab ansible_lab={lab.store} ansible_lab_program={LAB / 'lab'} "
        "ansible_become=false ansible_python_interpreter=/usr/bin/python3\n"
        for name, lab in labs.items()
    ]
    (place / "hosts").write_text("".join(lines))
    made = Fleet(labs, place)
    with ExitStack() as stack:
        stack.callback(lab.end_others, owner)
        for name, one in labs.items():
            one.reset()
            with made.on(name):
                client.start(GUEST)
        yield made


def test_the_second_fails_and_the_third_is_not_touched(fleet: Fleet) -> None:
    """The packages are certified and upgraded first.  A program of beta's administrator objects."""
    with fleet.on("beta"):
        script = "#!/bin/sh\\necho its backup runs >&2; exit 1\\n"
        shell(f"mkdir -p /etc/virtcpr/hooks.d; printf '{script}' > {HOOK}; chmod +x {HOOK}")
    before = fleet.pids()

    code, output, counts = fleet.play(virtcpr_serial=1, upgrade_packages=PACKAGES)

    assert code != 0, output
    after = fleet.pids()
    assert [name for name in NAMES if after[name] != before[name]] == ["alpha"], output
    assert (counts["alpha"]["changed"], counts["beta"]["failed"]) == (2, 1), output
    assert "1 blocked (small)" in output
    assert "gamma" not in counts, output
    assert fleet.installed() == {"alpha": "NEW", "beta": "NEW", "gamma": "OLD"}


def test_again_and_then_nothing_changes(fleet: Fleet) -> None:
    with fleet.on("beta"):
        shell(f"rm {HOOK}")
    code, output, counts = fleet.play(virtcpr_serial=1, upgrade_packages=PACKAGES)
    assert code == 0, output
    assert {name: host["changed"] for name, host in counts.items()} == {"alpha": 0, "beta": 1, "gamma": 2}, output
    assert fleet.run_in() == dict.fromkeys(NAMES, "NEW")
    code, output, counts = fleet.play(upgrade_packages=PACKAGES)
    assert (code, {host["changed"] for host in counts.values()}) == (0, {0}), output


def test_a_page_over_all_hosts(fleet: Fleet) -> None:
    page = fleet.place / "all.html"
    program = str(Path(sys.executable).parent / "virtcpr")
    code, output, _ = fleet.play(playbook="report", virtcpr_page=str(page), virtcpr_executable=program)
    assert code == 0, output
    assert "QEMU under 3 hosts" in page.read_text()
    assert page.read_text().count("all in the QEMU that is installed") == 3


def test_undo_moves_the_guests_and_leaves_the_packages(fleet: Fleet) -> None:
    before = fleet.pids()
    code, output, counts = fleet.play("--check", playbook="undo")
    assert (code, {host["changed"] for host in counts.values()}, fleet.pids()) == (0, {1}, before), output
    code, output, counts = fleet.play(playbook="undo")
    assert (code, {host["changed"] for host in counts.values()}) == (0, {1}), output
    assert (fleet.run_in(), fleet.installed()) == (dict.fromkeys(NAMES, "OLD"), dict.fromkeys(NAMES, "NEW"))


def test_back_to_the_old_version(fleet: Fleet) -> None:
    """By the same role: another version of the packages."""
    code, output, counts = fleet.play(upgrade_packages=PACKAGES, upgrade_version=client.versions()["OLD"])
    assert code == 0, output
    assert {host["changed"] for host in counts.values()} == {1}, f"the guests are there already: {output}"
    assert fleet.run_in() == fleet.installed() == dict.fromkeys(NAMES, "OLD")


def test_check_mode_changes_nothing(fleet: Fleet) -> None:
    for name in NAMES:
        with fleet.on(name):
            client.install_qemu("NEW")
    before = fleet.pids()
    code, output, counts = fleet.play("--check", "--diff")
    assert code == 0, output
    assert {name: host["changed"] for name, host in counts.items()} == dict.fromkeys(NAMES, 1), output
    assert output.count(f"+{GUEST.name}: {client.upstream(client.versions()['NEW'])}") == len(NAMES)
    assert fleet.pids() == before
