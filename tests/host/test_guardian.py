"""virtcpr is killed at every state of its journal, on a host with KVM: the guardian alone brings it to an end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.host.support import confinement
from tests.host.support.guests import KVM
from tests.host.support.machine import Host as Machine
from tests.lab.support import chaos_moments, client
from tests.lab.support.chaos import Case, Host

GUEST = replace(KVM, name="struck", number=41)
STATES = [moment for moment in chaos_moments.MOMENTS if moment.startswith("journal ")]


@pytest.fixture(scope="module")
def struck(host: Machine) -> Iterator[Host]:
    made = Host(GUEST)
    yield made
    made.close()


@pytest.mark.parametrize("moment", STATES)
def test_the_guardian_alone(struck: Host, moment: str) -> None:
    struck.ready()
    profiles = confinement.profiles()

    seen = struck.strike(Case(moment, ("virtcpr",), "guardian"))

    assert struck.outcome(seen) in chaos_moments.owners(moment, frozenset(["virtcpr"])), seen
    assert seen["code"] == -9, seen
    process = client.pid(GUEST.name)
    assert confinement.leader(GUEST.name) == process
    assert confinement.profile(process) == f"libvirt-{client.virsh('domuuid', GUEST.name).strip()} (enforce)"
    assert confinement.profiles() == profiles
