"""What apt says it would install, as it said it in the lab."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from virtcpr.errors import HostError
from virtcpr.host.system import apt
from virtcpr.host.system.apt import Package

EMULATOR = "/usr/bin/qemu-system-x86_64"
SIMULATED = """\
Inst qemu-utils [1:10.0.2+ds-2+deb13u1] (1:10.0.13+ds-0+deb13u1 Debian:13.8/stable [amd64])
Inst qemu-system-data [1:10.0.2+ds-2+deb13u1] (1:10.0.13+ds-0+deb13u1 Debian:13.8/stable [all]) []
Inst libfdt1 (1.7.2-2 Debian:13.8/stable, Debian-Security:13/stable-security [amd64])
Conf qemu-utils (1:10.0.13+ds-0+deb13u1 Debian:13.8/stable [amd64])
"""
UTILS = Package("qemu-utils", "1:10.0.13+ds-0+deb13u1", "amd64")
DATA = Package("qemu-system-data", "1:10.0.13+ds-0+deb13u1", "all")
FDT = Package("libfdt1", "1.7.2-2", "amd64")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The commands that would have been run; apt's cache is ``tmp_path``."""
    commands: list[list[str]] = []

    def run(argv: Sequence[str], **_: object) -> str:
        commands.append(list(argv))
        if argv[0] == "dpkg-query" and argv[-1].startswith("/opt/"):
            raise HostError(f"dpkg-query: no path found matching pattern {argv[-1]}")
        answers = {
            "dpkg-query": f"qemu-system-x86: {argv[-1]}\n",
            "apt-get": SIMULATED,
            "apt-config": f"place='{tmp_path}/'\n",
        }
        return answers.get(argv[0], "")

    monkeypatch.setattr(apt, "run", run)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    return commands


def test_everything_that_an_upgrade_would_install(ran: list[list[str]]) -> None:
    """New packages, and those of two archives, too."""
    assert apt.upgrades([EMULATOR, EMULATOR]) == (UTILS, DATA, FDT)
    assert ran[-1] == ["apt-get", "--simulate", "--only-upgrade", "--quiet=2", "install", "qemu-system-x86"]


def test_an_emulator_of_no_package_keeps_no_other_from_being_tried(ran: list[list[str]]) -> None:
    assert apt.upgrades(["/opt/qemu/bin/qemu", EMULATOR]) == (UTILS, DATA, FDT)
    assert ran[-1][-1] == "qemu-system-x86"


def test_emulators_of_no_package(ran: list[list[str]]) -> None:
    with pytest.raises(HostError, match="no package has /opt/a") as raised:
        apt.upgrades(["/opt/b", "/opt/a"])
    assert raised.value.hint == "give the new build: --emulator PATH"
    assert ["apt-get"] not in [command[:1] for command in ran]


def test_what_is_in_the_cache_is_not_downloaded(ran: list[list[str]], tmp_path: Path) -> None:
    place = tmp_path / "place"
    cached = tmp_path / "qemu-utils_1%3a10.0.13+ds-0+deb13u1_amd64.deb"
    cached.touch()
    files = apt.download([UTILS, DATA], place)
    assert files == [cached, place / "qemu-system-data_1%3a10.0.13+ds-0+deb13u1_all.deb"]
    assert ran[-1] == [
        "env", f"--chdir={place}", "apt-get", "--quiet=2", "download", "qemu-system-data:all=1:10.0.13+ds-0+deb13u1"
    ]  # fmt: skip
    (tmp_path / DATA.file_name).touch()
    ran.clear()
    apt.download([UTILS, DATA], place)
    assert {command[0] for command in ran} == {"apt-config"}


def test_where_there_is_no_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(HostError, match="there is no apt on this host") as raised:
        apt.upgrades([EMULATOR])
    assert raised.value.hint == "give the new build: --emulator PATH"


def test_an_emulator_of_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: Sequence[str], **_: object) -> str:
        raise HostError("dpkg-query: no path found matching pattern")

    monkeypatch.setattr(apt, "run", run)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(HostError, match="no package has /opt/qemu"):
        apt.upgrades(["/opt/qemu"])
