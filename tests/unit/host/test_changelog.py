"""A package's changelog, as Debian writes it."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from virtcpr.errors import HostError
from virtcpr.host.system import changelog
from virtcpr.host.system.changelog import Release, releases

TEXT = """\
qemu (1:10.0.13+ds-0+deb13u1) trixie; urgency=medium

  * new upstream release:
   -  hw/nvme: check the length
      (Closes: #1100000, CVE-2026-100500, CVE-2026-2222)
   -  hw/net: CVE-2026-2222 once more
   -  ui/vnc: no number here: CVE-2026-1

 -- Michael Tokarev <mjt@tls.msk.ru>  Sat, 29 Aug 2026 20:55:40 +0300

qemu (1:10.0.8+ds-0+deb13u1) trixie-security; urgency=high

  * no fix of that kind

 -- A Name <with@address> <mjt@tls.msk.ru>  Sat, 28 Feb 2026 22:03:46 +0300

qemu (1:10.0.2+ds-2) unstable; urgency=medium

  * CVE-2024-9999

 -- Michael Tokarev <mjt@tls.msk.ru>  Fri, 15 Aug 2025 10:00:00 +0000
"""
EMULATOR = "/usr/bin/qemu-system-x86_64"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The documentation of the package that has the emulator."""

    def owner(path: str) -> str:
        if path != EMULATOR:
            raise HostError(f"no package has {path}")
        return "qemu-system-x86:amd64"

    monkeypatch.setattr(changelog, "DOCUMENTATION", tmp_path)
    monkeypatch.setattr(changelog, "owner", owner)
    made = tmp_path / "qemu-system-x86"
    made.mkdir()
    return made


def write(path: Path, text: str) -> None:
    with gzip.open(path, "wt") as file:
        file.write(text)


@pytest.mark.parametrize("name", ["changelog.Debian.gz", "changelog.gz"])
def test_its_releases(directory: Path, name: str) -> None:
    write(directory / name, TEXT)
    assert releases(EMULATOR) == (
        Release("1:10.0.13+ds-0+deb13u1", "2026-08-29T20:55:40+03:00", ("CVE-2026-100500", "CVE-2026-2222")),
        Release("1:10.0.8+ds-0+deb13u1", "2026-02-28T22:03:46+03:00", ()),
        Release("1:10.0.2+ds-2", "2025-08-15T10:00:00+00:00", ("CVE-2024-9999",)),
    )


@pytest.mark.parametrize(
    ("content", "path"),
    [
        (b"", EMULATOR),
        (b"no gzip", EMULATOR),
        (gzip.compress(TEXT.encode())[:200], EMULATOR),
        (gzip.compress(TEXT.encode())[:40] + bytes(200), EMULATOR),
        (gzip.compress(TEXT.replace("28 Feb", "31 Feb").encode()), EMULATOR),
        (gzip.compress(TEXT.encode()), "/opt/qemu"),
    ],
)
def test_what_cannot_be_told(directory: Path, content: bytes, path: str) -> None:
    (directory / "changelog.Debian.gz").write_bytes(content)
    assert releases(path) == ()


def test_no_changelog(directory: Path) -> None:
    assert list(directory.iterdir()) == []
    assert releases(EMULATOR) == ()
