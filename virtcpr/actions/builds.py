"""``builds``: the builds of QEMU that are kept for `undo`."""

from __future__ import annotations

from virtcpr.actions.inspect.probe import Probe
from virtcpr.actions.records import builds
from virtcpr.errors import HostError
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.qemu import kept
from virtcpr.host.system.lock import Lock
from virtcpr.host.system.paths import NOT_ROOT, may_act, refuse_others
from virtcpr.model import BuildsReport, ExitCode, KeptBuild


def report(uri: str | None, *, keep: bool) -> BuildsReport:
    """What is kept; with ``keep``, first keep what the running domains run in.

    Raises HostError if libvirt doesn't answer, or this user may not look.
    """
    notes = _keep(uri) if keep else ()
    refuse_others(uri)
    running = kept.running()
    found = (
        KeptBuild(one.build, one.version, one.kept_at, one.program, kept.size(one), one.program in running)
        for one in kept.builds()
    )
    return BuildsReport(tuple(found), ExitCode.FAILED if notes else ExitCode.DONE, notes)


def _keep(uri: str | None) -> tuple[str, ...]:
    if not may_act(uri):
        raise HostError("only root can keep builds", hint=NOT_ROOT)
    with Lock(), Connection(uri) as connection:
        probe = Probe()
        return builds.keep(probe.facts(domain) for domain in connection.domains(running=True))
