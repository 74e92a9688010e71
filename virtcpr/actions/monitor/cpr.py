"""The QMP commands of cpr-transfer, for a swap and its rehearsal (QEMU, docs/devel/migration/CPR.rst)."""

from __future__ import annotations

from virtcpr.actions.monitor import query
from virtcpr.domain import qmp
from virtcpr.errors import HostError
from virtcpr.host.qemu.qmp import MIGRATION_ENDS, Qmp


async def arm(old: Qmp, name: str) -> None:
    """Set old QEMU's mode, then ask for its blockers: they depend on the mode.  Raises HostError."""
    await old.execute("migrate-set-parameters", {"mode": "cpr-transfer"})
    reasons = qmp.blocked_reasons(await old.execute("query-migrate"))
    if reasons:
        raise HostError(f"{name}: QEMU refuses: {'; '.join(reasons)}")
    # Without return-path, a late failure leaves old QEMU completed and paused.
    await query.set_capabilities(old, {"return-path": True, "events": True})


async def migrate(old: Qmp, cpr: str, main: str) -> None:
    """Old QEMU sends the RAM over ``cpr``, then waits for ``main``; its guest runs until new QEMU connects there."""
    channels = [_channel("main", main), _channel("cpr", cpr)]
    await old.execute("migrate", {"channels": channels})


async def refuse_ended(old: Qmp, name: str) -> None:
    """Raises HostError if old QEMU doesn't wait any more for new QEMU to connect: somebody cancelled its migration."""
    status = qmp.text(qmp.obj(await old.execute("query-migrate")).get("status"))
    if status in ("", "none", "cancelling", "failing", *MIGRATION_ENDS):
        raise HostError(f"{name}: old QEMU's migration is {status or 'gone'} before the hand-over", hint="try again")


async def incoming(new: Qmp, main: str) -> None:
    """New QEMU receives the device state over ``main``, and stays alive if it can't load it: every release that has
    cpr-transfer has the option for that."""
    await new.execute("migrate-incoming", {"uri": f"unix:{main}", "exit-on-error": False})


async def reason(side: Qmp) -> str:
    """QEMU's reason why its migration failed."""
    answer = qmp.obj(await side.execute("query-migrate"))
    return qmp.text(answer.get("error-desc")) or f"status {qmp.text(answer.get('status'))}"


def _channel(kind: str, path: str) -> dict[str, object]:
    return {"channel-type": kind, "addr": {"transport": "socket", "type": "unix", "path": path}}
