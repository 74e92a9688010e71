"""The commands of cpr-reboot, as a save, a restore and their rehearsal give them (QEMU, docs/devel/migration/CPR.rst).

Data, not calls: a rehearsal speaks to its twins itself, and libvirt passes the commands on to a guest's QEMU.
"""

from __future__ import annotations

from collections.abc import Mapping

from virtcpr.domain.facts import Emulator

Command = tuple[str, Mapping[str, object]]

UNLIMITED = 1 << 50  # bytes a second; QEMU's default, 128 MiB/s, is meant for networks


def save_settings(*, ignore_shared: bool) -> tuple[Command, ...]:
    """For the QEMU that saves.  ``return-path`` is off, as a file has no way back."""
    capabilities = {"x-ignore-shared": ignore_shared, "return-path": False, "events": True}
    return _settings({"mode": "cpr-reboot", "max-bandwidth": UNLIMITED}, capabilities)


def load_settings(*, ignore_shared: bool) -> tuple[Command, ...]:
    """For the QEMU that loads; both must agree on ``ignore_shared``."""
    return _settings({"mode": "cpr-reboot"}, {"x-ignore-shared": ignore_shared, "events": True})


def migrate(uri: str) -> Command:
    return "migrate", {"uri": uri}


def incoming(uri: str, emulator: Emulator) -> Command:
    """QEMU loads the state.  If it can't, it stays alive and says why; before 9.1 it has no option for that, and
    ends (qapi/migration.json, migrate-incoming)."""
    stay = {"exit-on-error": False} if emulator.exit_on_error else {}
    return "migrate-incoming", {"uri": uri, **stay}


def _settings(parameters: Mapping[str, object], capabilities: Mapping[str, bool]) -> tuple[Command, ...]:
    listed = [{"capability": name, "state": state} for name, state in capabilities.items()]
    return ("migrate-set-parameters", parameters), ("migrate-set-capabilities", {"capabilities": listed})
