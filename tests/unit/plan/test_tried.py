"""What mode transfer was run with: by tests that are there; and what names a descriptor."""

from __future__ import annotations

from itertools import combinations

import pytest

from tests.paths import lab_module
from virtcpr.domain.argv import Option
from virtcpr.plan.tried import ALL, Tried, descriptors, names


@pytest.mark.parametrize("test", sorted({test for tried in ALL for test in tried}))
def test_what_was_run_names_a_test_that_is_there(test: str) -> None:
    module, _, name = test.partition("::")
    assert f"def {name}(" in lab_module(module).read_text()


@pytest.mark.parametrize("tried", ALL)
def test_nothing_is_listed_twice(tried: Tried) -> None:
    assert len(names(tried)) == sum(len(group.split()) for group in tried.values())
    for first, second in combinations(tried.values(), 2):
        assert not set(first.split()) & set(second.split())


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (Option("device", '{"driver":"virtio-net-pci","ebpf-rss-fds":"33:34"}'), ("ebpf-rss-fds",)),
        (Option("netdev", "tap,id=n,fd=3,vhostfd=4"), ("fd", "vhostfd")),
        (Option("netdev", "stream,id=n,addr.type=fd,addr.str=5"), ("addr.type",)),
        (Option("blockdev", '{"driver":"nbd","server":{"type":"fd","str":"7"}}'), ("type",)),
        (Option("object", '{"qom-type":"memory-backend-file","mem-path":"/proc/self/fd/9"}'), ("mem-path",)),
        (Option("object", '{"qom-type":"iommufd","id":"i","fd":"22"}'), ("fd",)),
        (Option("blockdev", '{"driver":"file","filename":"/dev/fdset/3"}'), ()),
        (Option("device", "isa-fdc,fdtypeA=144"), ()),
        (Option("S"), ()),
    ],
)
def test_the_properties_that_name_a_descriptor(option: Option, expected: tuple[str, ...]) -> None:
    assert descriptors(option) == expected
