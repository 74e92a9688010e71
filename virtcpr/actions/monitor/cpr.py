"""The commands of cpr-transfer, as a swap and its rehearsal give them (QEMU, docs/devel/migration/CPR.rst)."""

from __future__ import annotations

from virtcpr.actions.monitor import query
from virtcpr.domain import qmp
from virtcpr.errors import HostError
from virtcpr.host.qemu.qmp import Monitor


async def arm(old: Monitor, name: str) -> None:
    """Set old QEMU's mode, and let it name what blocks that: only then it knows.  Raises HostError."""
    await old.execute("migrate-set-parameters", {"mode": "cpr-transfer"})
    reasons = qmp.blocked_reasons(await old.execute("query-migrate"))
    if reasons:
        raise HostError(f"{name}: QEMU refuses: {'; '.join(reasons)}")
    # return-path: without it a failure that comes late leaves old completed and paused.
    await query.set_capabilities(old, {"return-path": True, "events": True})


async def migrate(old: Monitor, cpr: str, main: str) -> None:
    """Old hands the RAM over on ``cpr``, then waits for ``main``; its guest runs until new connects there."""
    channels = [_channel("main", main), _channel("cpr", cpr)]
    await old.execute("migrate", {"channels": channels})


async def incoming(new: Monitor, main: str) -> None:
    """New takes the state of the devices on ``main``, and stays alive where it can't load it."""
    await new.execute("migrate-incoming", {"uri": f"unix:{main}", "exit-on-error": False})


async def reason(side: Monitor) -> str:
    """Why its migration failed, in QEMU's words."""
    answer = qmp.obj(await side.execute("query-migrate"))
    return qmp.text(answer.get("error-desc")) or f"status {qmp.text(answer.get('status'))}"


def _channel(kind: str, path: str) -> dict[str, object]:
    return {"channel-type": kind, "addr": {"transport": "socket", "type": "unix", "path": path}}
