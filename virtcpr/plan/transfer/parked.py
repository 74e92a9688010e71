"""What mode transfer, parked, was never run with: its own tests are fewer than those of mode transfer."""

from __future__ import annotations

from collections.abc import Iterator

from virtcpr.domain.facts import DomainFacts
from virtcpr.plan.transfer.swap import Plan

CONFINED = "seclabel[@model='apparmor' or @model='selinux'][not(@type='none')]"


def untried(plan: Plan, facts: DomainFacts) -> Iterator[str]:
    """In words.  Mode transfer's own list of what was run is for guests whose old QEMU is there to the end."""
    assert facts.process is not None
    if facts.live.kind != "qemu":
        yield f"virtualisation by {facts.live.kind}"
    if facts.live.matches(CONFINED):
        yield "QEMU confined by AppArmor or SELinux"
    if any(len(queues) > 1 for queues in facts.process.taps.values()):
        yield "interfaces with several queues"
    if plan.opened:
        yield "devices whose back end is the kernel's (vhost)"
    if plan.ports:
        yield "displays whose TCP port new QEMU binds itself (SPICE, websocket)"
    if plan.helpers:
        yield "processes that serve the guest (TPM, shared directories, passt)"
