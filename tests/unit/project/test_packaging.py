"""What distributions get: versions and files agree, and triggers tell of what matters."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import virtcpr
from tests.paths import ROOT
from virtcpr.plan.policy import KEYS, Policy, policy

DEBIAN, PACKAGES = ROOT / "debian", ROOT / "packages"
SPEC, PKGBUILD = PACKAGES / "rpm/virtcpr.spec", PACKAGES / "arch/PKGBUILD"


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        (DEBIAN / "changelog", r"^virtcpr \((.*?)\)"),
        (SPEC, r"^Version: +(.*)"),
        (PKGBUILD, r"^pkgver=(.*)"),
    ],
    ids=["deb", "rpm", "arch"],
)
def test_every_package_is_of_this_version(path: Path, pattern: str) -> None:
    found = re.search(pattern, path.read_text(), re.MULTILINE)
    assert found is not None
    assert found[1].replace("~dev", ".dev") == virtcpr.__version__, "to dpkg and rpm ~ sorts before the release"


def test_the_configuration_as_shipped_says_nothing() -> None:
    text = (PACKAGES / "virtcpr.toml").read_text()
    assert policy([("virtcpr.toml", text)]) == Policy()


def test_its_comments_are_every_key_with_its_default() -> None:
    text = (PACKAGES / "virtcpr.toml").read_text()
    said = re.sub(r"^#(?=[a-z-]+ = )", "", text, flags=re.MULTILINE)
    assert policy([("virtcpr.toml", said)]) == Policy()
    assert re.findall(r"^([a-z-]+) =", said, re.MULTILINE) == [key.rpartition(".")[2] for key in KEYS]


def test_dpkg_tells_of_emulators_their_modules_and_libvirt() -> None:
    lines = [line.split() for line in (DEBIAN / "virtcpr.triggers").read_text().splitlines() if line[0] != "#"]
    assert {how for how, _ in lines} == {"interest-noawait"}  # whoever triggers it must not wait for it
    paths = [path for _, path in lines]
    assert len(paths) == len(set(paths))
    needed = (
        "/usr/bin/qemu-system-x86_64 /usr/bin/qemu-system-aarch64 /usr/lib/x86_64-linux-gnu/qemu /usr/sbin/libvirtd"
    )
    assert set(needed.split()) <= set(paths)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/usr/bin/qemu-system-x86_64", True),
        ("/usr/bin/qemu-kvm", True),
        ("/usr/libexec/qemu-kvm", True),
        ("/usr/lib64/qemu/hw-display-qxl.so", True),
        ("/usr/lib64/qemu-kvm/hw-display-qxl.so", True),
        ("/usr/sbin/libvirtd", True),
        ("/usr/bin/virtqemud", True),
        ("/usr/bin/qemu-img", False),
        ("/usr/bin/virsh", False),
    ],
)
def test_rpm_tells_of_the_same(path: str, told: bool) -> None:
    """Of its trigger's prefixes rpm finds directories only."""
    spec = SPEC.read_text()
    prefixes = spec.partition("%transfiletriggerin -- ")[2].partition("\n")[0].split()
    (pattern,) = re.findall(r"grep -E '([^']+)'", spec)
    assert any(f"{path.rpartition('/')[0]}/".startswith(prefix) for prefix in prefixes)
    assert bool(re.search(pattern, path)) == told


@pytest.mark.parametrize("path", [SPEC, PKGBUILD], ids=["rpm", "arch"])
@pytest.mark.parametrize(
    "file",
    [
        "packages/trigger",
        "packages/quiesce",
        "packages/virtcpr.toml",
        "packages/virtcpr.tmpfiles",
        "systemd/*.service",
        "systemd/*.timer",
    ],
)
def test_the_others_have_what_debian_has(path: Path, file: str) -> None:
    assert file in path.read_text()
    # Debian's prerm does what quiesce does.
    assert file.rpartition("/")[2] in (DEBIAN / "virtcpr.install").read_text() or file.endswith(
        (".tmpfiles", "quiesce")
    )
    assert list(ROOT.glob(file))


@pytest.mark.parametrize(
    "path",
    [
        *sorted(DEBIAN.glob("virtcpr.p*")),
        PACKAGES / "trigger",
        PACKAGES / "quiesce",
        PKGBUILD,
        PACKAGES / "arch/virtcpr.install",
    ],
    ids=lambda path: path.name,
)
def test_scripts_parse(path: Path) -> None:
    subprocess.run(["bash" if path == PKGBUILD else "sh", "-n", str(path)], check=True)


@pytest.mark.parametrize("unit", ["virtcpr-restore.service", "virtcpr-auto.service"])
def test_systemd_has_the_patience_that_guests_take(unit: str) -> None:
    """Whoever loads the RAM of many guests from a disk must not be killed in the middle."""
    assert "\nTimeoutStartSec=infinity\n" in (ROOT / "systemd" / unit).read_text()


@pytest.mark.parametrize("unit", ["auto", "daily"])
def test_what_moves_guests_is_stopped_before_they_are_saved(unit: str) -> None:
    """A unit that starts after another is stopped before it (systemd.unit(5)); it holds the lock that a save needs."""
    lines = (ROOT / f"systemd/virtcpr-{unit}.service").read_text().splitlines()
    assert any(line.startswith("After=") and "virtcpr-save.service" in line.split() for line in lines)
