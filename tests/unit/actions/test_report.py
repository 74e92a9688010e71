"""``report``: which builds domains run in, and what was fixed since."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from virtcpr.actions import report
from virtcpr.host.system import changelog
from virtcpr.host.system.changelog import Release
from virtcpr.model import BuildInUse, DomainRow

OLD, NEW = "10.0.2 (Debian 1:10.0.2+ds-2)", "10.0.13 (Debian 1:10.0.13+ds-0)"
RELEASES = (
    Release("1:10.0.13+ds-0", "2026-08-29T20:55:40+03:00", ("CVE-2026-2222", "CVE-2026-1111")),
    Release("1:10.0.8+ds-0", "2026-02-28T22:03:46+03:00", ("CVE-2026-1111", "CVE-2025-3333")),
    Release("1:10.0.2+ds-2", "2025-08-15T10:00:00+00:00", ("CVE-2024-9999",)),
)
SINCE = ("CVE-2026-2222", "CVE-2026-1111", "CVE-2025-3333")


def domain(name: str, running: str | None, path: str = "/usr/bin/qemu", outdated: bool | None = None) -> Any:
    package = running.partition("(")[2].rstrip(")") if running else ""
    facts = SimpleNamespace(emulator=SimpleNamespace(path=path), qemu=SimpleNamespace(package=package))
    row = DomainRow(
        name, f"u-{name}", 1, "running", running, NEW, running != NEW if outdated is None else outdated, None
    )
    return facts, row


def in_use(*domains: Any) -> list[BuildInUse]:
    return list(report._in_use([facts for facts, _ in domains], [row for _, row in domains]))


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths whose changelog was read; only the installed one's has something."""
    paths: list[str] = []

    def releases(path: str) -> tuple[Release, ...]:
        paths.append(path)
        return RELEASES if path == "/usr/bin/qemu" else ()

    monkeypatch.setattr(changelog, "releases", releases)
    return paths


def test_builds_with_what_was_fixed_since(asked: list[str]) -> None:
    found = in_use(domain("web", OLD), domain("off", None), domain("db", NEW), domain("mail", OLD))
    assert found == [
        BuildInUse(OLD, NEW, True, ("web", "mail"), "2025-08-15T10:00:00+00:00", SINCE),
        BuildInUse(NEW, NEW, False, ("db",), "2026-08-29T20:55:40+03:00", ()),
    ]
    assert asked == ["/usr/bin/qemu"]


def test_one_of_another_line_of_packages() -> None:
    """Its version isn't in the changelog of what is installed: nothing is said, rather than too much."""
    (found,) = in_use(domain("web", "11.1.3 (Debian 1:11.1.3+ds-1~bpo13+1)"))
    assert (found.released, found.fixes) == (None, None)


def test_one_that_is_from_no_package() -> None:
    (found,) = in_use(domain("web", "10.0.2", "/opt/qemu"))
    assert (found.released, found.fixes) == (None, None)


def test_a_rebuild_of_the_same_version_is_a_build_of_its_own() -> None:
    found = in_use(domain("web", NEW, outdated=True), domain("db", NEW))
    assert [(one.outdated, one.domains, one.fixes) for one in found] == [(True, ("web",), ()), (False, ("db",), ())]


def test_who_is_interrupted_is_named() -> None:
    _, row = domain("web", OLD)
    assert list(report._names(["u-web", "u-gone"], [row])) == ["web", "u-gone"]
