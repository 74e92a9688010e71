"""Emulators by path, each inspected once."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from virtcpr.domain import qmp
from virtcpr.domain.facts import Emulator
from virtcpr.errors import HostError
from virtcpr.host.libvirt import daemon
from virtcpr.host.qemu import emulator as binary
from virtcpr.host.system import apparmor


class Emulators:
    """The installed emulators, each inspected once."""

    def __init__(self) -> None:
        self._known: dict[str, Emulator] = {}

    def get(self, path: str) -> Emulator:
        if path not in self._known:
            self._known[path] = asyncio.run(_inspect(path))
        return self._known[path]


async def _inspect(path: str) -> Emulator:
    try:
        build, answers = await binary.inspect(path)
    except binary.NotAnEmulator as problem:
        return Emulator(path, problem=str(problem))
    version, package = qmp.version(answers["query-version"])
    schema = answers["query-qmp-schema"]
    return Emulator(
        path,
        version=qmp.version_text(version, package),
        build=build,
        target=qmp.text(qmp.obj(answers["query-target"])["arch"]),
        modes=qmp.migration_modes(schema),
        machines=qmp.machines(answers["query-machines"]),
        number=version,
        exit_on_error=qmp.takes(schema, "migrate-incoming", "exit-on-error"),
        vfio=qmp.hands_over_vfio(answers[binary.EVENTS]),
        forbidden_by=_forbidden_by(path),
    )


def _forbidden_by(path: str) -> str | None:
    """libvirt's daemon runs an emulator itself, to learn what it can do: without that no domain starts in it."""
    with suppress(HostError):  # no daemon: nothing is moved then
        process = daemon.running().process
        profile = apparmor.profile_of(process) if process else None
        if profile and apparmor.forbids(profile, path):
            return profile
    return None
