"""What `auto` decides: of each domain, and in which waves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.support import facts
from virtcpr.domain.live import WISH_NS
from virtcpr.model import Action, AutoDomain, AutoReport, ExitCode, Finding, Mode, Outlook, Result, Severity, Side
from virtcpr.plan import auto
from virtcpr.plan.auto import Candidate, Wave
from virtcpr.plan.policy import Auto, Fallback, Policy, Prepare
from virtcpr.plan.windows import Freeze, Moment, Window

OLD, NEW = Side("10.0.2", 1), Side("10.0.13")
BLOCKER = Finding("ram-private", Severity.BLOCKER, "RAM isn't shared", "prepare it")
WARNING = Finding("vnc", Severity.WARNING, "viewers", "")
APPLY = Policy(auto=Auto.APPLY)
NOON = Moment(2026, 11, 28, 5, 12 * 60)


def movable(name: str = "web", mode: Mode = Mode.TRANSFER, forecast: float | None = None) -> Outlook:
    return Outlook(name, f"uuid-{name}", OLD, NEW, None, (WARNING,), mode, forecast_ms=forecast)


def blocked(name: str = "db") -> Outlook:
    return Outlook(name, f"uuid-{name}", OLD, NEW, Result.BLOCKED, (BLOCKER,))


def judged(candidate: Candidate, policy: Policy = APPLY, moment: Moment = NOON) -> AutoDomain:
    (domain,) = auto.plan([candidate], policy, moment).domains
    return domain


CURRENT = Outlook("new", "uuid-new", NEW, NEW, Result.CURRENT)


@pytest.mark.parametrize(
    ("candidate", "policy", "action", "reason"),
    [
        (Candidate(CURRENT), APPLY, Action.CURRENT, ""),
        (Candidate(CURRENT, wish="off"), APPLY, Action.CURRENT, ""),
        (Candidate(CURRENT, wish="nonsense"), APPLY, Action.CURRENT, ""),
        (Candidate(movable()), APPLY, Action.MOVE, ""),
        (Candidate(movable()), Policy(), Action.TOLD, "auto says notify; it can be moved"),
        (Candidate(blocked()), Policy(), Action.TOLD, "auto says notify; mode transfer can't move it"),
        (Candidate(movable(), wish="off"), APPLY, Action.LEFT, "its metadata says off"),
        (Candidate(movable(), wish="off"), Policy(), Action.LEFT, "its metadata says off"),
        (Candidate(movable(), wish="notify"), APPLY, Action.TOLD, "its metadata says notify; it can be moved"),
        (Candidate(movable(), wish="apply"), Policy(), Action.MOVE, ""),
        (Candidate(movable(), went_back=True), APPLY, Action.LEFT, auto.WENT_BACK),
        (Candidate(movable(), wish="apply", went_back=True), APPLY, Action.LEFT, auto.WENT_BACK),
        (Candidate(CURRENT, went_back=True), APPLY, Action.CURRENT, ""),
        (Candidate(movable(), wish="Apply"), APPLY, Action.LEFT, "its metadata says 'Apply'"),
        (Candidate(movable(), wish=""), APPLY, Action.LEFT, "its metadata says ''"),
        (Candidate(blocked()), APPLY, Action.BLOCKED, ""),
        (
            Candidate(movable(), problem="q is gone"),
            APPLY,
            Action.TOLD,
            "q is gone: nothing is done",
        ),
        (
            Candidate(blocked(), problem="q is gone"),
            APPLY,
            Action.TOLD,
            "q is gone: nothing is done",
        ),
    ],
)
def test_what_becomes_of_a_domain(candidate: Candidate, policy: Policy, action: Action, reason: str) -> None:
    domain = judged(candidate, policy)
    assert domain.action is action
    assert domain.reason == reason
    assert (domain.name, domain.source) == (candidate.outlook.name, candidate.outlook.source)


def test_a_wish_that_makes_no_sense_is_told() -> None:
    (finding,) = judged(Candidate(movable(), wish="no")).findings
    assert finding.message == "its metadata says 'no', which is neither off, notify nor apply; it counts as off"
    assert finding.remedy.startswith("virsh metadata web urn:virtcpr:auto:1 ")


def test_off_is_off_for_all() -> None:
    """A domain can't opt in to what the administrator of the host turned off."""
    assert auto.wanted(Candidate(movable(), wish="apply"), Policy(auto=Auto.OFF)) is Auto.OFF


@pytest.mark.parametrize(
    ("forecast", "limit", "action"),
    [(None, 100, Action.MOVE), (99.0, 100, Action.MOVE), (101.0, 100, Action.TOLD), (101.0, 0, Action.MOVE)],
)
def test_the_longest_pause(forecast: float | None, limit: int, action: Action) -> None:
    domain = judged(Candidate(movable(forecast=forecast)), replace(APPLY, max_pause_ms=limit))
    assert domain.action is action
    if action is Action.TOLD:
        assert domain.reason == "its expected pause is 101 ms, and max-pause-ms is 100"


def test_outside_the_windows() -> None:
    night = replace(APPLY, windows=(Window(22 * 60, 6 * 60),))
    assert judged(Candidate(movable()), night, replace(NOON, minute=23 * 60)).action is Action.MOVE
    waiting = judged(Candidate(movable()), night, NOON)
    assert (waiting.action, waiting.reason) == (Action.WAITING, "guests are only moved 22:00-06:00")
    assert judged(Candidate(blocked()), night, NOON).action is Action.BLOCKED
    assert auto.plan([Candidate(movable())], night, NOON).waves == ()


def test_waves_of_a_size() -> None:
    """Canaries aside, and each mode by itself."""
    policy = replace(APPLY, canary=1, wave=2, fallback=Fallback.REBOOT)
    found = [Candidate(movable(name)) for name in "abcdef"]
    found += [Candidate(blocked(name), reboot=movable(name, Mode.REBOOT)) for name in "xyz"]
    waves = [(wave.mode, "".join(uuid[-1] for uuid in wave.uuids)) for wave in auto.plan(found, policy, NOON).waves]
    assert waves == [
        (Mode.TRANSFER, "a"), (Mode.TRANSFER, "bc"), (Mode.TRANSFER, "de"), (Mode.TRANSFER, "f"),
        (Mode.REBOOT, "xy"), (Mode.REBOOT, "z"),
    ]  # fmt: skip


def test_on_a_frozen_date() -> None:
    frozen = replace(APPLY, freeze=(Freeze((2026, 11, 28), (2026, 11, 30)),), windows=(Window(0, 24 * 60),))
    waiting = judged(Candidate(movable()), frozen)
    assert (waiting.action, waiting.reason) == (Action.WAITING, "no guest is moved on 2026-11-28..2026-11-30")


def test_mode_reboot_where_it_is_allowed() -> None:
    allowed = replace(APPLY, fallback=Fallback.REBOOT)
    candidate = Candidate(blocked())
    assert auto.to_reboot(candidate, allowed)
    assert not auto.to_reboot(candidate, APPLY)
    assert not auto.to_reboot(Candidate(movable()), allowed)
    assert not auto.to_reboot(Candidate(blocked(), wish="notify"), allowed)
    assert not auto.to_reboot(Candidate(blocked(), problem="gone"), allowed)
    moved = judged(replace(candidate, reboot=movable("db", Mode.REBOOT)), allowed)
    assert (moved.action, moved.mode) == (Action.MOVE, Mode.REBOOT)
    slow = replace(allowed, max_pause_ms=500)
    assert judged(replace(candidate, reboot=movable("db", Mode.REBOOT, 1200.0)), slow).action is Action.TOLD
    neither = judged(replace(candidate, reboot=replace(blocked(), findings=(BLOCKER, WARNING))), allowed)
    assert (neither.action, neither.reason) == (Action.BLOCKED, "mode reboot can't move it either")
    assert neither.findings == (BLOCKER, WARNING)


def test_mode_live_where_it_is_allowed() -> None:
    """It goes before mode reboot, which isn't examined if it can."""
    allowed = replace(APPLY, prepare=Prepare.LIVE, fallback=Fallback.REBOOT)
    candidate = Candidate(blocked())
    assert auto.to_copy(candidate, allowed)
    assert not auto.to_copy(candidate, replace(allowed, prepare=Prepare.NEVER))
    assert not auto.to_copy(Candidate(movable()), allowed)
    assert not auto.to_copy(Candidate(blocked(), wish="notify"), allowed)
    copied = replace(candidate, live=movable("db", Mode.LIVE))
    assert not auto.to_reboot(copied, allowed)
    assert (judged(copied, allowed).action, judged(copied, allowed).mode) == (Action.MOVE, Mode.LIVE)
    refused = replace(candidate, live=replace(blocked(), findings=(WARNING,)))
    assert auto.to_reboot(refused, allowed)
    assert judged(refused, allowed).reason == "mode live can't move it either"
    neither = judged(replace(refused, reboot=blocked()), allowed)
    assert (neither.reason, neither.findings) == ("modes live and reboot can't move it either", (BLOCKER, WARNING))
    by_reboot = judged(replace(refused, reboot=movable("db", Mode.REBOOT)), allowed)
    assert (by_reboot.action, by_reboot.mode) == (Action.MOVE, Mode.REBOOT)


def test_what_is_rehearsed() -> None:
    assert auto.to_rehearse(Candidate(movable()), APPLY)
    assert auto.to_rehearse(Candidate(movable()), Policy())
    for candidate in (
        Candidate(movable(), wish="off"),
        Candidate(movable(), wish="?"),
        Candidate(movable(), problem="gone"),
        Candidate(blocked()),
        Candidate(CURRENT),
    ):
        assert not auto.to_rehearse(candidate, APPLY)


@pytest.mark.parametrize(
    ("canary", "waves"),
    [
        (0, [("transfer", "bd", False), ("reboot", "ac", False)]),
        (1, [("transfer", "b", True), ("transfer", "d", False), ("reboot", "ac", False)]),
        (2, [("transfer", "bd", True), ("reboot", "ac", False)]),
        (3, [("transfer", "bd", True), ("reboot", "a", True), ("reboot", "c", False)]),
        (9, [("transfer", "bd", True), ("reboot", "ac", True)]),
    ],
)
def test_waves(canary: int, waves: list[tuple[str, str, bool]]) -> None:
    """Mode transfer before mode reboot; what isn't moved is in none."""
    allowed = replace(APPLY, fallback=Fallback.REBOOT, canary=canary)
    rebooting = [Candidate(blocked(name), reboot=movable(name, Mode.REBOOT)) for name in "ac"]
    live = auto.plan([rebooting[0], Candidate(blocked("l"), live=movable("l", Mode.LIVE))], allowed, NOON).waves
    assert [wave.mode for wave in live] == [Mode.LIVE, Mode.REBOOT]
    candidates = [rebooting[0], Candidate(movable("b")), rebooting[1], Candidate(movable("d")), Candidate(CURRENT)]
    planned = auto.plan(candidates, allowed, NOON)
    assert [domain.name for domain in planned.domains] == ["a", "b", "c", "d", "new"]
    assert planned.waves == tuple(
        Wave(Mode(mode), tuple(f"uuid-{name}" for name in names), first) for mode, names, first in waves
    )


def with_wish(word: str | None) -> str:
    xml = facts.domain().xml
    if word is None:
        return xml
    wish = f"<virtcpr-auto:auto xmlns:virtcpr-auto='{WISH_NS}'>{word}</virtcpr-auto:auto>"
    assert "<metadata" not in xml
    return xml.replace("<devices>", f"<metadata>{wish}</metadata><devices>", 1)


@pytest.mark.parametrize(
    ("live", "persistent", "word"),
    [
        (None, None, None),
        ("off", None, "off"),
        (None, "off", "off"),
        ("apply", "off", "apply"),
        (" notify\n", None, "notify"),
        ("", "off", ""),
    ],
)
def test_the_wish_is_in_the_metadata(live: str | None, persistent: str | None, word: str | None) -> None:
    """As virsh metadata writes it; of a running domain that of the live XML counts."""
    domain = replace(facts.domain(), xml=with_wish(live), persistent_xml=with_wish(persistent))
    assert auto.wish(domain) == word


def test_a_domain_that_cannot_be_read_has_no_wish() -> None:
    assert auto.wish(replace(facts.domain(), xml="<domain", persistent_xml=None)) is None


def test_what_is_worth_telling() -> None:
    def report(*domains: AutoDomain, notes: tuple[str, ...] = ()) -> AutoReport:
        return AutoReport(domains, ExitCode.DONE, notes=notes)

    left, current = (judged(candidate) for candidate in (Candidate(movable(), wish="off"), Candidate(CURRENT)))
    told = judged(Candidate(movable()), Policy())
    assert not auto.tells(report())
    assert not auto.tells(report(left, current))
    assert auto.tells(report(left, current, told))
    assert auto.tells(report(judged(Candidate(movable(), wish="nonsense"))))
    several = "2 outdated domains reported, none moved: run `virtcpr upgrade"
    assert auto.subject(report(left, current, told, told)) == f"4 domains: 1 current, 1 left; {several} DOMAIN...`"
    assert auto.subject(report(current, told, told)) == f"3 domains: 1 current; {several} --all`"
    assert auto.subject(report(told)) == "1 outdated domain reported, not moved: run `virtcpr upgrade --all`"
    assert auto.subject(report()) == "no running domains"
    assert auto.subject(report(notes=("x",))) == "x"
