"""The plan of a swap in mode ``transfer`` or ``live`` for one domain, from facts alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from virtcpr.domain import shared_ram
from virtcpr.domain.argv import successor
from virtcpr.domain.clock import later
from virtcpr.domain.facts import DomainFacts
from virtcpr.domain.helpers.helper import Helper
from virtcpr.domain.reconcile import reconcile
from virtcpr.domain.status import StatusFile
from virtcpr.model import Mode
from virtcpr.plan.guest import Guest
from virtcpr.plan.steps import LIVE, PARKED, TRANSFER, Step
from virtcpr.plan.transfer import replay
from virtcpr.plan.transfer.replay import Command
from virtcpr.plan.transfer.resources import Bound, Carried, Opened, Resources, refuse_unknown


@dataclass(frozen=True)
class Plan:
    """A swap that can be executed: everything that its execution needs to know about the domain."""

    name: str
    uuid: str
    pid: int
    started: str
    emulator: str
    argv: tuple[str, ...]
    status_path: str
    status_xml: str
    status: StatusFile
    runs: bool  # False: the user suspended it, and it stays suspended
    carried: tuple[Carried, ...] = ()
    bound: tuple[Bound, ...] = ()
    opened: tuple[Opened, ...] = ()
    taps: tuple[int, ...] = ()  # old QEMU's descriptors of tap queues
    displays: tuple[int, ...] = ()  # old QEMU's listening descriptors of the VNC display
    ports: tuple[int, ...] = ()  # old QEMU's listening descriptors whose TCP ports new QEMU binds itself
    binds: tuple[str, ...] = ()  # paths of old QEMU's unix sockets that new QEMU binds itself, beside them
    cid: int | None = None  # of the guest's vsock: new QEMU takes it itself
    helpers: tuple[Helper, ...] = ()  # the processes that serve old QEMU: new gets others
    replay: tuple[Command, ...] = ()
    return_path: bool = False  # as it was before the swap
    limits: Mapping[str, int] = field(default_factory=dict)  # as ``Guest.limits``
    mode: Mode = Mode.TRANSFER
    spare: tuple[str, ...] = ()  # parked: the command line of the build that the guest runs in, for the way back
    steps: tuple[Step, ...] = TRANSFER

    @property
    def parked(self) -> bool:
        """Whether old QEMU ends before new makes a device."""
        return bool(self.spare)

    @property
    def guest(self) -> Guest:
        return Guest(
            name=self.name,
            monitor=self.status.monitor,
            lib_dir=self.status.lib_dir,
            status_path=self.status_path,
            status_xml=self.status_xml,
            emulator=self.emulator,
            runs=self.runs,
            return_path=self.return_path,
            taints=tuple(sorted(self.status.taints)),
            listeners=(*(socket.path for socket in self.bound), *self.binds),
            helpers=self.helpers,
            limits=self.limits,
        )

    @property
    def cpr_socket(self) -> str:
        return self.guest.sockets[0]

    @property
    def main_socket(self) -> str:
        return self.guest.sockets[1]


# virtlogd's pipe, or another target of QEMU's own output.
OUTPUT = (Carried(1, 1, "standard output"), Carried(2, 2, "standard error"))


def plan(facts: DomainFacts, mode: Mode = Mode.TRANSFER, *, parked: bool = False) -> Plan:
    """The plan for a domain without blockers in this mode.  Raises Unplannable if a resource can't be identified.

    ``parked``: mode transfer, with old QEMU ended before new makes a device.
    """
    assert facts.process is not None
    assert facts.qemu is not None
    status, live = facts.status, facts.live
    line = reconcile(facts.process.line, facts.qemu, facts.status_xml).line
    resources = Resources(
        line,
        facts.process,
        facts.qemu,
        {i.alias: i.target or "" for i in live.interfaces()},
        live.vnc_sockets(),
        status.monitor,
        vnc_listens=not live.matches("devices/graphics[@type='vnc']/listen[@type='none']"),
    )
    replaced = {option: new for option in line.options if (new := resources.replacement(option)) is not None}
    refuse_unknown(line.options, replaced)
    replaced |= {option: later(option, facts.process.age) for option in line.named("rtc")}
    copies = mode is Mode.LIVE
    if copies:
        replaced |= shared_ram.replacements(line, facts.qemu.memdevs, live.hugepage_kib())
    more = () if facts.qemu.aux_ram_share or not copies else (shared_ram.AUX,)
    cpr_socket = None if copies else f"{status.lib_dir}/cpr.sock"
    argv = successor(line, facts.emulator.path, replaced, cpr_socket, *more).argv()
    return Plan(
        name=facts.name,
        uuid=facts.uuid,
        pid=facts.process.pid,
        started=facts.process.started,
        emulator=facts.emulator.recorded,
        argv=argv,
        status_path=facts.status_path,
        status_xml=facts.status_xml,
        status=status,
        runs=facts.state != "paused",
        carried=(*OUTPUT, *resources.carried),
        bound=tuple(resources.bound),
        opened=tuple(resources.opened),
        taps=tuple(queue for queues in facts.process.taps.values() for queue in queues),
        displays=tuple(resources.displays),
        ports=tuple(resources.ports),
        binds=tuple(resources.binds),
        cid=resources.cid,
        helpers=facts.process.helpers,
        replay=tuple(replay.commands(line, facts)),
        return_path="return-path" in facts.qemu.capabilities,
        limits=facts.qemu.limits if copies else {},
        mode=mode,
        spare=(line.argv()[0], *argv[1:]) if parked else (),
        steps=LIVE if copies else PARKED if parked else TRANSFER,
    )
