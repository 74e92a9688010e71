"""The memory backends of mode live's new QEMU, and what libvirt's record says of them."""

from __future__ import annotations

import json

import pytest

from tests.unit.support import facts
from virtcpr.domain import shared_ram, status
from virtcpr.domain.argv import CommandLine, Option
from virtcpr.domain.facts import Memdev
from virtcpr.domain.live import LiveDomain

NAMED = "x-use-canonical-path-for-ramblock-id"


def made(given: str, hugepage_kib: int | None = None, place: str = "") -> dict[str, object] | None:
    """The backend that takes its place; None: it stays."""
    option = Option("object", given)
    line = CommandLine("qemu", (option, Option("object", '{"qom-type":"rng-builtin","id":"rng0"}')))
    replaced = shared_ram.replacements(line, [Memdev("pc.ram", False, place=place)], hugepage_kib)
    return dict(replaced[option].properties()) if replaced else None


@pytest.mark.parametrize(
    ("given", "new"),
    [
        (
            {"qom-type": "memory-backend-ram", "id": "pc.ram", "size": 4096, "host-nodes": [1], "policy": "bind"},
            {"size": 4096, "host-nodes": [1], "policy": "bind", NAMED: False},
        ),
        ({"qom-type": "memory-backend-memfd", "id": "pc.ram", "share": False, "size": 4096}, {"size": 4096}),
    ],
)
def test_private_ram_becomes_shared(given: dict[str, object], new: dict[str, object]) -> None:
    backend = {"qom-type": "memory-backend-memfd", "id": "pc.ram", "share": True}
    assert made(json.dumps(given)) == {**backend, **new}


def test_it_is_written_as_it_was() -> None:
    words = made("memory-backend-ram,id=pc.ram,size=4096")
    assert words == {"": "memory-backend-memfd", "id": "pc.ram", "size": "4096", "share": "on", NAMED: "off"}


@pytest.mark.parametrize(("kib", "size"), [(2048, {"hugetlbsize": 2 << 20}), (0, {})])
def test_huge_pages_in_a_directory(kib: int, size: dict[str, int]) -> None:
    """Where its RAM block has a name of its own, it keeps it."""
    given = {"qom-type": "memory-backend-file", "id": "pc.ram", "mem-path": "/dev/hugepages/x", "discard-data": False}
    backend = {"qom-type": "memory-backend-memfd", "id": "pc.ram", NAMED: True, "share": True, "hugetlb": True}
    assert made(json.dumps({**given, NAMED: True}), kib, "directory") == {**backend, **size}


def test_a_file_of_libvirts_own() -> None:
    """As of guests with NUMA cells, or with RAM that is allocated at once; huge pages, if any, are others'."""
    given = {"qom-type": "memory-backend-file", "id": "pc.ram", "mem-path": "/ram/1-web/pc.ram", "prealloc": True}
    backend = {"qom-type": "memory-backend-memfd", "id": "pc.ram", "prealloc": True, "share": True}
    assert made(json.dumps(given), 2048, "file") == backend


def test_what_is_shared_stays() -> None:
    assert made('{"qom-type":"memory-backend-memfd","id":"pc.ram","share":true,"size":4096}') is None


def test_libvirts_record_says_what_runs() -> None:
    """Nothing else of it changes, and it can be done twice."""
    text = facts.domain().status_xml
    bare = text.replace("<access mode='shared'/>", "").replace("aux-ram-share=on", "usb=off")
    assert LiveDomain.of(facts.domain().xml).handed_over()
    done = status.with_domain(bare, shared_ram.readied)
    assert "aux-ram-share=on" in done
    assert status.changes(status.with_domain(bare, lambda domain: domain), bare) == ()
    assert status.changes(status.with_domain(done, shared_ram.readied), done) == ()
    assert all(change.startswith("domain") for change in status.changes(bare, done))
