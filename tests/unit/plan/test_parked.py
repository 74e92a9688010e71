"""Mode transfer, parked: the plan, and what of a guest was never run with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.support import facts
from virtcpr.domain.helpers.helper import Helper
from virtcpr.plan.steps import PARKED
from virtcpr.plan.transfer.parked import untried
from virtcpr.plan.transfer.resources import Opened
from virtcpr.plan.transfer.swap import Plan, plan

SERVER = facts.domain()


def of(**changes: object) -> list[str]:
    return list(untried(replace(plan(SERVER, parked=True), **changes), SERVER))  # type: ignore[arg-type]


def test_the_way_back_is_the_build_that_it_runs_in() -> None:
    """With new QEMU's options: it gets the same descriptors."""
    parked, usual = plan(SERVER, parked=True), plan(SERVER)
    assert SERVER.process is not None
    assert (parked.parked, usual.parked) == (True, False)
    assert parked.argv == usual.argv
    assert parked.spare == (SERVER.process.argv[0], *parked.argv[1:])
    assert parked.steps == PARKED


def test_what_was_run_is_not_refused() -> None:
    domain = replace(SERVER, xml=SERVER.xml.replace("type='kvm'", "type='qemu'").replace('type="kvm"', 'type="qemu"'))
    usual: Plan = replace(plan(domain, parked=True), opened=(), ports=(), helpers=())
    assert list(untried(usual, domain)) == []


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"opened": (Opened(10, "/dev/vhost-net"),)}, "(vhost)"),
        ({"ports": (7,)}, "(SPICE, websocket)"),
        ({"helpers": (Helper,)}, "(TPM, shared directories, passt)"),
    ],
)
def test_what_was_not_run_is_named(changes: dict[str, object], what: str) -> None:
    assert any(what in words for words in of(**changes))


@pytest.mark.parametrize(
    ("was", "now", "what"),
    [
        ("<domain ", "<domain type='kvm' ", "virtualisation by kvm"),
        ("</domain>", "<seclabel type='dynamic' model='apparmor'/></domain>", "AppArmor"),
    ],
)
def test_hosts_that_it_was_not_run_on(was: str, now: str, what: str) -> None:
    head, _, rest = SERVER.xml.partition(">")
    bare = " ".join(word for word in head.split() if not word.startswith("type="))
    xml = f"{bare} >{rest}".replace(was, now, 1)
    domain = replace(SERVER, xml=xml)
    assert any(what in words for words in untried(plan(SERVER, parked=True), domain))
