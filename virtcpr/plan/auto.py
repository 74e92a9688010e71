"""What `auto` does with each running domain, by the policy, the domain's own wish, its facts and the time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from shlex import quote

from virtcpr.domain.facts import DomainFacts
from virtcpr.errors import ParseError
from virtcpr.model import Action, AutoDomain, AutoReport, Finding, Mode, Outlook, Result, Severity
from virtcpr.plan.policy import Auto, Fallback, Policy, Prepare
from virtcpr.plan.windows import Moment

METADATA = "its metadata"
WENT_BACK = "'virtcpr undo' has taken it back from what is installed; 'virtcpr upgrade' moves it again"
NOT_A_WISH = "virsh metadata {name} urn:virtcpr:auto:1 --key virtcpr-auto --set '<auto>off</auto>' --live --config"


@dataclass(frozen=True)
class Candidate:
    """A running domain.  ``outlook`` is for mode transfer, ``live`` and ``reboot`` for these modes, if examined.

    ``wish`` is the word in its metadata, None if there is none; ``problem`` says why the installed emulator can't be
    used; ``went_back``: `undo` has taken it back from what is installed.
    """

    outlook: Outlook
    wish: str | None = None
    problem: str | None = None
    reboot: Outlook | None = None
    live: Outlook | None = None
    went_back: bool = False

    @property
    def others(self) -> tuple[Outlook, ...]:
        """Of the other modes that were examined, in the order in which they are taken."""
        return tuple(outlook for outlook in (self.live, self.reboot) if outlook is not None)


@dataclass(frozen=True)
class Wave:
    """Domains to move together, by UUID."""

    mode: Mode
    uuids: tuple[str, ...]
    canary: bool = False


@dataclass(frozen=True)
class AutoPlan:
    """Every domain, with Action.MOVE if it is to be moved; and the order of the moves."""

    domains: tuple[AutoDomain, ...] = ()
    waves: tuple[Wave, ...] = ()


def wish(facts: DomainFacts) -> str | None:
    """The administrator's word in the metadata of the live XML, or else of the persistent XML."""
    with suppress(ParseError):  # a finding says so
        if facts.live.wish is not None:
            return facts.live.wish
    with suppress(ParseError):
        return facts.stored.wish if facts.stored else None
    return None


def wanted(candidate: Candidate, policy: Policy) -> Auto | None:
    """What to do with a domain that runs an outdated QEMU; None: its wish is invalid."""
    if policy.auto is Auto.OFF or candidate.wish is None:
        return policy.auto
    try:
        return Auto(candidate.wish)
    except ValueError:
        return None


def to_rehearse(candidate: Candidate, policy: Policy) -> bool:
    """Whether a rehearsal with this domain's twin is useful."""
    if candidate.problem or candidate.went_back:
        return False
    return candidate.outlook.moves and wanted(candidate, policy) in (Auto.NOTIFY, Auto.APPLY)


def to_copy(candidate: Candidate, policy: Policy) -> bool:
    """Whether mode live should be tried for this domain."""
    return policy.prepare is Prepare.LIVE and _blocked_in_transfer(candidate, policy)


def to_reboot(candidate: Candidate, policy: Policy) -> bool:
    """Whether mode reboot should be tried for this domain."""
    copied = candidate.live is not None and candidate.live.moves
    return policy.fallback is Fallback.REBOOT and not copied and _blocked_in_transfer(candidate, policy)


def _blocked_in_transfer(candidate: Candidate, policy: Policy) -> bool:
    blocked = candidate.outlook.verdict is Result.BLOCKED and not candidate.problem and not candidate.went_back
    return blocked and wanted(candidate, policy) is Auto.APPLY


def plan(candidates: Sequence[Candidate], policy: Policy, moment: Moment) -> AutoPlan:
    """Decide about every domain, and group the moves into waves, if it is done at this moment."""
    domains = tuple(_judged(candidate, policy, moment) for candidate in candidates)
    return AutoPlan(domains, tuple(_waves([domain for domain in domains if domain.action is Action.MOVE], policy)))


def _waves(moving: Sequence[AutoDomain], policy: Policy) -> Iterable[Wave]:
    """Canaries first; the mode with the shorter pause before the other mode."""
    canary = policy.canary
    modes = (Mode.TRANSFER, Mode.LIVE, Mode.REBOOT)
    ordered = [domain for mode in modes for domain in moving if domain.mode is mode]
    for first, part in ((True, ordered[:canary]), (False, ordered[canary:])):
        for mode in modes:
            uuids = tuple(domain.uuid for domain in part if domain.mode is mode)
            size = policy.wave or max(len(uuids), 1)
            for start in range(0, len(uuids), size):
                yield Wave(mode, uuids[start : start + size], first)


def _judged(candidate: Candidate, policy: Policy, moment: Moment) -> AutoDomain:
    outlook, auto = candidate.outlook, wanted(candidate, policy)
    if outlook.verdict is Result.CURRENT:
        return _as(outlook, Action.CURRENT)
    if auto is None:
        return replace(
            _as(outlook, Action.LEFT, f"{METADATA} says '{candidate.wish}'"), findings=(_nonsense(candidate),)
        )
    if auto is Auto.OFF:
        return replace(_as(outlook, Action.LEFT, f"{METADATA} says off"), findings=())
    if candidate.went_back:
        return replace(_as(outlook, Action.LEFT, WENT_BACK), findings=())
    if candidate.problem:
        return replace(_as(outlook, Action.TOLD, f"{candidate.problem}: nothing is done"), findings=())
    if auto is Auto.NOTIFY:
        says = METADATA if candidate.wish else "auto"
        return _as(outlook, Action.TOLD, f"{says} says notify; {_could(outlook)}")
    moves = next((one for one in (outlook, *candidate.others) if one.moves), None)
    return _moved(moves, policy, moment) if moves else _blocked(candidate)


def _moved(outlook: Outlook, policy: Policy, moment: Moment) -> AutoDomain:
    pause = outlook.forecast_ms
    if policy.max_pause_ms and pause is not None and pause > policy.max_pause_ms:
        reason = f"its expected pause is {pause:.0f} ms, and max-pause-ms is {policy.max_pause_ms}"
        return _as(outlook, Action.TOLD, reason)
    if not policy.open(moment):
        return _as(outlook, Action.WAITING, closed(policy, moment))
    return _as(outlook, Action.MOVE)


def closed(policy: Policy, moment: Moment) -> str:
    """Why a domain must wait."""
    if frozen := next((freeze for freeze in policy.freeze if moment in freeze), None):
        return f"no guest is moved on {frozen}"
    return f"guests are only moved {', '.join(map(str, policy.windows))}"


def _blocked(candidate: Candidate) -> AutoDomain:
    """The findings of each mode that was examined."""
    names = [name for name, outlook in (("live", candidate.live), ("reboot", candidate.reboot)) if outlook is not None]
    if not names:
        return _as(candidate.outlook, Action.BLOCKED)
    findings = dict.fromkeys(finding for one in (candidate.outlook, *candidate.others) for finding in one.findings)
    modes = f"mode {names[0]}" if len(names) == 1 else f"modes {' and '.join(names)}"
    return replace(_as(candidate.outlook, Action.BLOCKED, f"{modes} can't move it either"), findings=tuple(findings))


def _could(outlook: Outlook) -> str:
    return "it can be moved" if outlook.moves else "mode transfer can't move it"


def _as(outlook: Outlook, action: Action, reason: str = "") -> AutoDomain:
    return AutoDomain(
        name=outlook.name,
        uuid=outlook.uuid,
        action=action,
        reason=reason,
        mode=outlook.mode if action in (Action.MOVE, Action.WAITING) else None,
        source=outlook.source,
        target=outlook.target,
        findings=outlook.findings,
    )


def _nonsense(candidate: Candidate) -> Finding:
    message = f"{METADATA} says '{candidate.wish}', which is neither off, notify nor apply; it counts as off"
    return Finding("wish", Severity.WARNING, message, NOT_A_WISH.format(name=quote(candidate.outlook.name)))


def tells(report: AutoReport) -> bool:
    """Whether there is something to report to the administrator."""
    quiet = (Action.CURRENT, Action.LEFT)
    return any(domain.action not in quiet or domain.findings for domain in report.domains)


def essence(report: AutoReport) -> tuple[str, ...]:
    """What a report tells, without what differs from run to run: a line for each domain that isn't quiet."""
    quiet = (Action.CURRENT, Action.LEFT)
    return tuple(
        " ".join(
            (
                domain.uuid,
                domain.action.value,
                domain.reason,
                domain.source.version if domain.source else "",
                domain.target.version if domain.target else "",
                *sorted(finding.code for finding in domain.findings),
            )
        )
        for domain in report.domains
        if domain.action not in quiet or domain.findings
    )


def subject(report: AutoReport) -> str:
    """The report in a line: ``3 domains: 2 upgraded, 1 current``, and how many domains were only reported."""
    actions = [domain.action for domain in report.domains]
    if not actions:
        return "; ".join(report.notes) or "no running domains"
    counted = [action for action in Action if action in actions and action is not Action.TOLD]
    counts = ", ".join(f"{actions.count(action)} {action.value}" for action in counted)
    total = f"{len(actions)} {'domain' if len(actions) == 1 else 'domains'}: {counts}" if counts else ""
    return "; ".join(filter(None, (total, report.reported)))
