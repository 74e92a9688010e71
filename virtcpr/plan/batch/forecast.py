"""Predict a guest's pause, and how long libvirt's daemon will be away, from earlier moves; keep both within limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from statistics import median

from virtcpr.model import Blackout, Blackouts, Outlook, Result
from virtcpr.plan.findings.table import LONG_BLACKOUT, LONG_PAUSE
from virtcpr.plan.outcome import Outcome

LAST = 5  # older pauses are from other versions of QEMU, the kernel and the guest
LAST_BLACKOUTS = 10
A_GUEST_MS = 60.0  # what a guest adds to a blackout, until blackouts with different numbers of guests were seen
LEAST_MS = 20.0
SURE = 3  # fewer blackouts may all have been such as took half a minute: libvirtd hangs now and then when it ends
GROWTH = 4  # with a limit: at most so many times as many guests as were ever moved in one blackout


def forecast(pauses: Sequence[float]) -> float | None:
    """The median of the last pauses, in milliseconds; None if there were none."""
    return round(median(pauses[-LAST:]), 3) if pauses else None


def with_forecast(outlook: Outlook, pauses: Mapping[str, Sequence[float]]) -> Outlook:
    """The outlook with the expected pause; ``pauses`` are the domains' earlier ones by UUID, in milliseconds."""
    return replace(outlook, forecast_ms=forecast(pauses.get(outlook.uuid, ())))


def blackout(seen: Sequence[Blackout], guests: int) -> float | None:
    """How long the daemon will be away to hand over so many guests, in milliseconds; None if it never was.

    A line through the last ones, the newest last in ``seen``, by medians.
    """
    last = seen[-LAST_BLACKOUTS:]
    if not last:
        return None
    slopes = [(b.ms - a.ms) / (b.guests - a.guests) for a, b in combinations(last, 2) if a.guests != b.guests]
    a_guest = max(median(slopes), LEAST_MS) if slopes else A_GUEST_MS
    return max(median(one.ms - a_guest * one.guests for one in last), 0) + a_guest * guests


def at_once(seen: Sequence[Blackout], left: int, limit_ms: float | None) -> int:
    """How many of the guests that are left to hand over in the next blackout; 0: even one would take too long.

    As long as that isn't sure one guest at a time shows how long the daemon is away.
    """
    if limit_ms is None:
        return left
    if not seen:
        return min(left, 1)
    most = min(left, GROWTH * max(1, *(one.guests for one in seen)))  # in some, none could be moved
    fits = next((n for n in range(most, 0, -1) if (blackout(seen, n) or 0) <= limit_ms), 0)
    return fits if fits or len(seen) >= SURE else 1


def blackouts(seen: Sequence[Blackout], guests: int, limit_ms: float | None) -> Blackouts | None:
    """How often, and for how long at most, the daemon will be away to hand over all guests; None if unknown."""
    longest, times = 0.0, 0
    known = list(seen)
    while guests and known:
        part = at_once(known, guests, limit_ms)
        if not part:
            return None
        expected = blackout(known, part) or 0
        longest, times, guests = max(longest, expected), times + 1, guests - part
        known.append(Blackout(part, expected))
    return Blackouts(times, round(longest, 1)) if times else None


def one_after_the_other(parts: Sequence[Blackouts | None]) -> Blackouts | None:
    """All of these; None if one isn't known, or there are none."""
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    return Blackouts(sum(part.times for part in known), max(part.longest_ms for part in known))


def one_by_one(seen: Sequence[Blackout], guests: int) -> Blackouts | None:
    """The same if each guest has a blackout of its own."""
    expected = blackout(seen, 1)
    return None if expected is None or not guests else Blackouts(guests, round(expected, 1))


def refuse_long_pauses(
    outcomes: Iterable[Outcome], limit_ms: float | None, pauses: Mapping[str, Sequence[float]]
) -> None:
    """Block the domains with a longer forecast.  What has no forecast isn't blocked."""
    for outcome in outcomes:
        expected = forecast(pauses.get(outcome.facts.uuid, ()))
        if outcome.result is None and limit_ms is not None and expected is not None and expected > limit_ms:
            words = {"forecast": f"{expected:.0f}", "limit": f"{limit_ms:g}"}
            outcome.end(Result.BLOCKED, LONG_PAUSE.finding(outcome.facts.name, words))


def refuse_long_blackouts(outcomes: Iterable[Outcome], limit_s: float | None, seen: Sequence[Blackout]) -> None:
    """Block all of them if even one guest is forecast to keep the daemon away for longer."""
    expected = blackout(seen, 1) or 0
    if limit_s is None or len(seen) < SURE or expected <= limit_s * 1000:
        return
    words = {"forecast": f"{expected / 1000:.1f}", "limit": f"{limit_s:g}"}
    for outcome in outcomes:
        if outcome.result is None:
            outcome.end(Result.BLOCKED, LONG_BLACKOUT.finding(outcome.facts.name, words))


def too_long(outlook: Outlook) -> bool:
    """Whether it isn't moved because of a limit on its pause or on the blackout: no other mode may be tried then."""
    return any(finding.code in (LONG_PAUSE.code, LONG_BLACKOUT.code) for finding in outlook.findings)
