"""After the swap: check that libvirt's daemon manages each guest in its new process, as the same domain."""

from __future__ import annotations

from virtcpr.actions.inspect import probe
from virtcpr.actions.transfer.place_threads import names, picture
from virtcpr.domain import qmp
from virtcpr.domain.facts import DomainFacts
from virtcpr.domain.live import LiveDomain
from virtcpr.host.libvirt.connection import Domain
from virtcpr.host.processes.proc import Process, owner_of_thread
from virtcpr.plan.placement import Placement, differences
from virtcpr.plan.verification import Adopted
from virtcpr.plan.verification import verify as compare

PING_SECONDS = 5  # the daemon has the guest by then: it isn't part of the blackout


def verify(domain: Domain, before: DomainFacts, pid: int, placement: Placement | None) -> tuple[str, ...]:
    """What isn't as before, or as it must be, after adoption; empty if all is well.  ``placement``: old QEMU's."""
    threads = qmp.threads(domain.monitor("query-cpus-fast"))
    iothreads = qmp.iothreads(domain.monitor("query-iothreads"))
    # Only now: a monitor command waits for the daemon's reconnect job, which brings the state up to date; asking for
    # the state waits for no job (qemuDomainQemuMonitorCommandWithFiles, qemuDomainGetState in src/qemu/qemu_driver.c).
    state, reason = domain.state()
    xml = domain.xml()
    live, fdsets = LiveDomain.of(xml), tuple(qmp.fdsets(domain.monitor("query-fdsets")))
    after = Adopted(
        id=domain.id,
        state=state,
        reason=reason,
        xml=xml,
        owners=frozenset(owner_of_thread(thread) for thread in threads.values()),
        version=qmp.version_text(*qmp.version(domain.monitor("query-version"))),
        vcpus=frozenset(threads),
        iothreads=frozenset(iothreads),
        devices=qmp.children(domain.monitor("qom-list", {"path": "/machine/peripheral"})),
        nodes=qmp.block_nodes(
            domain.monitor("query-named-block-nodes", {"flat": True}), domain.monitor("query-blockstats")
        ),
        drives=qmp.drives(domain.monitor("query-block")),
        ports=probe.ports(live),
        outputs=probe.outputs(live, fdsets, Process.of(pid).fd_targets()),
        agent=domain.agent_answers(PING_SECONDS) if before.agent else None,
    )
    process = Process.of(pid)
    now = picture(process, names(process, threads, iothreads))
    return (*compare(before, after, pid), *(differences(placement, now) if placement else ()))
