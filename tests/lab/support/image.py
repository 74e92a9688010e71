"""The lab's image: a Debian root file system, built once and kept under a key of what it is built from."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab.support import kept
from tests.lab.support.kept import LabError
from tests.paths import LAB

SUITE = "trixie"
SOURCES = (LAB / "image", LAB / "witness", LAB / "support/image.py")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# What of the host's apt configuration the image needs to reach the same mirrors in the same way.
APT_OPTIONS = ("Acquire::http", "Acquire::https", "Acquire::Check", "Acquire::Retries")
HOST_PACKAGES = {"mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container"}


@dataclass(frozen=True)
class Mirrors:
    """Where the packages come from: what the host's own apt uses."""

    debian: str
    security: str

    def sources(self) -> list[str]:
        suites = [(self.debian, s) for s in (SUITE, f"{SUITE}-updates", f"{SUITE}-backports")]
        suites.append((self.security, f"{SUITE}-security"))
        return [f"deb [signed-by={KEYRING}] {uri} {suite} main" for uri, suite in suites]


def ensure_host_tools() -> None:
    """Install the two programs that the lab needs from the host's own archive."""
    missing = [package for tool, package in HOST_PACKAGES.items() if not shutil.which(tool)]
    if not missing:
        return
    _update_lists()
    subprocess.run(
        ["apt-get", "-qy", "install", "--no-install-recommends", *missing],
        check=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )


def _update_lists() -> None:
    subprocess.run(["apt-get", "-q", "update"], check=True, stdin=subprocess.DEVNULL)


def mirrors() -> Mirrors:
    """The host's Debian and security mirrors, or those that the environment names."""
    named = os.environ.get("VIRTCPR_LAB_MIRROR"), os.environ.get("VIRTCPR_LAB_SECURITY_MIRROR")
    archives = dict(_host_archives())
    if not archives:  # apt lists only what it has downloaded, and a fresh machine has downloaded nothing
        _update_lists()
        archives = dict(_host_archives())
    debian = named[0] or archives.get("Debian")
    security = named[1] or archives.get("Debian-Security")
    if not debian or not security:
        raise LabError(
            "no Debian mirror in the host's apt configuration: set VIRTCPR_LAB_MIRROR and VIRTCPR_LAB_SECURITY_MIRROR"
        )
    return Mirrors(debian, security)


def _host_archives() -> Iterator[tuple[str, str]]:
    """(label, address) of every archive of Debian's that the host's apt knows."""
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN)\t$(LABEL)\t$(REPO_URI)"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for line in sorted(set(listed.splitlines()), reverse=True):
        origin, label, uri = line.split("\t")
        if origin == "Debian":
            yield label, uri.rstrip("/")


def root(store: Path, source: Mirrors) -> Path:
    """Where the root of the image is under ``store``, once it is built."""
    return store / "images" / kept.key(repr((SUITE, source, platform.machine())), LAB, *SOURCES)


def build(store: Path, source: Mirrors) -> Path:
    """The root of the image, built if it isn't there."""

    def make(part: Path) -> None:
        kept.run_logged(_mmdebstrap(part, source), store / "build.log", "building the image")

    return kept.built(root(store, source), make)


def _mmdebstrap(root: Path, source: Mirrors) -> list[str]:
    hooks = [
        'mkdir "$1/lab-image" "$1/lab-witness"',
        f'cp -r "{LAB}/image/." "$1/lab-image" && cp -r "{LAB}/witness/." "$1/lab-witness"',
        'chroot "$1" sh /lab-image/customize.sh',
        'rm -r "$1/lab-image" "$1/lab-witness"',
    ]
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        "--skip=cleanup/apt,check/empty",
        "--dpkgopt=force-unsafe-io",
        *(f"--aptopt={option}" for option in _apt_options()),
        *(f"--customize-hook={hook}" for hook in hooks),
        SUITE,
        str(root),
        *source.sources(),
    ]


def _apt_options() -> list[str]:
    dumped = subprocess.run(
        ["apt-config", "dump", "--format", '%F "%v";%n'], check=True, capture_output=True, text=True
    ).stdout
    return [line for line in dumped.splitlines() if line.startswith(APT_OPTIONS) and ' ""' not in line]
