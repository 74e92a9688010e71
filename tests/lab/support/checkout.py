"""The checkout as it is installed in a lab or on a host."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from typing import IO

from tests.paths import ROOT

# What of the checkout is installed in the lab.
INSTALLED = (
    "setup.cfg",
    "pyproject.toml",
    "README.md",
    "SECURITY.md",
    "LICENSE",
    "virtcpr",
    "xml-templates",
    "hooks",
    "systemd",
    "packages",
    "man",
    "docs",
    "apparmor",
    "selinux",
    "debian",
    "Makefile",
)
INSTALL = (
    "pip install --quiet --root-user-action=ignore --no-index --no-deps --no-build-isolation "
    "--force-reinstall --break-system-packages"
)


def pack(stream: IO[bytes]) -> None:
    """Write what is installed to the stream, as a tar archive."""
    with tarfile.open(fileobj=stream, mode="w|") as archive:
        for name in INSTALLED:
            if (ROOT / name).exists():
                archive.add(ROOT / name, name, filter=_source_only)


def _source_only(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = Path(info.name).name
    return None if name == "__pycache__" or name.endswith(".egg-info") else info


def fingerprint() -> str:
    digest = hashlib.sha256()
    for name in INSTALLED:
        root = ROOT / name
        for path in sorted([root] if root.is_file() else root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(ROOT)}\0{path.stat().st_mode}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()
