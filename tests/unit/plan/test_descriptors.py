"""How many guests one batch has descriptors for."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.support import facts
from virtcpr.plan.batch.descriptors import KEPT, MOVING, OWN, PARKED, needed, needed_to_settle, that_fit
from virtcpr.plan.decision import decide
from virtcpr.plan.transfer.resources import Carried
from virtcpr.plan.transfer.swap import Plan


def guest(queues: int) -> Plan:
    plan = decide(facts.domain()).plan
    assert plan is not None
    carried = tuple(Carried(number, number, "a queue") for number in range(queues))
    return replace(plan, taps=tuple(range(queues)), displays=(), carried=carried, bound=(), opened=())


def test_each_guest_keeps_its_taps_and_carries_its_descriptors_once() -> None:
    plans = [guest(16) for _ in range(60)]
    for_two = OWN + 4 * MOVING + 2 * (KEPT + 16) + 16
    assert that_fit(plans, for_two - 1, 4) == 1
    assert that_fit(plans, for_two, 4) == 2
    assert that_fit(plans, 1 << 20, 4) == 60


def test_sixty_guests_with_many_queues_need_more_than_the_default() -> None:
    assert that_fit([guest(16) for _ in range(60)], 1024, 2) < 60


def test_a_batch_without_guests_fits() -> None:
    assert that_fit([], 10, 1) == 0


def test_a_batch_that_fits_needs_what_it_fits_into() -> None:
    plans = [guest(16), guest(2)]
    assert needed(plans, 4) == OWN + 4 * MOVING + 2 * KEPT + 16 + 2 + 16, "each is spawned by itself"
    assert that_fit(plans, needed(plans, 4), 4) == 2
    assert that_fit(plans, needed(plans, 4) - 1, 4) == 1


def test_a_parked_guest_has_more_of_them() -> None:
    """Those that its keeper gets are virtcpr's until the end of the batch; recovery gets copies of all of them."""
    parked = replace(guest(1), spare=("/usr/bin/qemu-system-x86_64",))
    assert needed([parked] * 10, 2) == needed([guest(1)] * 10, 2) + 10 * PARKED
    assert needed_to_settle(60) > 1024
