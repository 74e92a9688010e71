"""Which domains a request is about."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from virtcpr.actions import check
from virtcpr.actions.inspect.selection import chosen
from virtcpr.domain.facts import DomainFacts, Emulator
from virtcpr.errors import HostError
from virtcpr.model import ExitCode, Mode, Request
from virtcpr.plan.decision import decide

TAGGED = "<domain><metadata><t:tags xmlns:t='urn:virtcpr:tags:1'>\n production\tdb-1 </t:tags></metadata></domain>"


def connection() -> Any:
    def domains(*, running: bool) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(name=name, xml=lambda name=name: TAGGED if name == "off" else "<domain/>")
            for name in (("web",) if running else ("off", "web"))
        ]

    return SimpleNamespace(domains=domains)


@pytest.mark.parametrize(("running", "names"), [(True, ["web"]), (False, ["off", "web"])])
def test_all_is_every_running_domain_or_every_one(running: bool, names: list[str]) -> None:
    """`check` and `prepare` look at domains that are shut off, too: the easiest to prepare."""
    assert [domain.name for domain in chosen(connection(), Request(every=True), running=running)] == names


def test_names_that_are_left_out() -> None:
    request = Request(every=True, exclude=("w?b", "no*"))
    assert [domain.name for domain in chosen(connection(), request, running=False)] == ["off"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("tag:production", ["web"]),
        ("tag:db-*", ["web"]),
        ("tag:prod", ["off", "web"]),
        ("tag:*", ["web"]),
        ("production", ["off", "web"]),
        ("tag:", ["off", "web"]),
    ],
)
def test_tags_that_are_left_out(pattern: str, names: list[str]) -> None:
    request = Request(every=True, exclude=(pattern,))
    assert [domain.name for domain in chosen(connection(), request, running=False)] == names


@pytest.mark.parametrize("gone", [True, False])
def test_one_that_is_gone_while_tags_are_read_is_left_out(gone: bool) -> None:
    """As if it had ended a moment earlier; one that libvirt still has and can't show is an error."""

    def unreadable() -> str:
        raise HostError("Domain not found")

    there = connection()
    listed = [SimpleNamespace(name="brief", uuid="b", xml=unreadable), *there.domains(running=True)]
    there.domains = lambda *, running: listed
    there.find = lambda _: None if gone else listed[0]
    request = Request(every=True, exclude=("tag:production",))
    if gone:
        assert [domain.name for domain in chosen(there, request)] == ["web"]
    else:
        with pytest.raises(HostError):
            chosen(there, request)


@pytest.mark.parametrize(("every", "code"), [(True, ExitCode.DONE), (False, ExitCode.BLOCKED)])
def test_a_domain_that_does_not_run_blocks_only_if_it_was_named(every: bool, code: ExitCode) -> None:
    off = DomainFacts("off", "u", None, "shut off", "", "<domain/>", Emulator("/usr/bin/qemu"))
    report = check._report([decide(off)], None, every=every)
    assert (report.exit_code, report.domains[0].ready) == (code, ())


def test_check_without_a_mode_judges_what_upgrade_would_use() -> None:
    """Not mode reboot, which must be asked for."""
    reboot_only: Any = SimpleNamespace(
        facts=DomainFacts("web", "u", 1, "running", "", "<domain/>", Emulator("/usr/bin/qemu")),
        findings=(),
        blocked=lambda mode: mode is not Mode.REBOOT,
    )
    assert check._report([reboot_only], None).exit_code is ExitCode.BLOCKED
    assert check._report([reboot_only], Mode.REBOOT).exit_code is ExitCode.DONE
