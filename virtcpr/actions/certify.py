"""``certify``: could guests go to a QEMU that isn't installed, and come back?  Reads only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from virtcpr.actions.inspect.emulators import Emulators
from virtcpr.actions.inspect.probe import Probe
from virtcpr.actions.inspect.selection import chosen
from virtcpr.actions.rehearsal.defined import Defined, look
from virtcpr.actions.rehearsal.rehearse import Case, rehearse_both_ways
from virtcpr.domain.facts import DomainFacts, Emulator
from virtcpr.errors import HostError, VirtcprError
from virtcpr.host.libvirt.connection import Connection, Domain
from virtcpr.host.qemu import unpacked
from virtcpr.host.system import apt
from virtcpr.model import AVAILABLE, Candidates, CertifiedDomain, CertifyReport, Mode, Rehearsal, Request, Trial
from virtcpr.plan.certify import ELSEWHERE, exit_code, judge, judge_defined, mode_for, mode_for_defined
from virtcpr.plan.decision import Decision, decide

Find = Callable[[Emulator], Emulator]  # the candidate for a domain with this emulator


def certify(request: Request, candidates: Candidates) -> CertifyReport:
    """Rehearse every shape of guest against a candidate build, there and back; nothing is installed or touched.

    ``request.mode`` None: each domain in the first mode that it is ready for.  Raises UsageError, and HostError if the
    candidate can't be run.
    """
    with Connection(request.uri) as connection:
        probe = Probe(candidates.emulator)
        known = [(domain, probe.facts(domain)) for domain in chosen(connection, request, running=not request.defined)]
        installed = Emulators()  # what a domain that doesn't run would start in; the probe has the candidate
        off = {facts.uuid: _defined(connection, facts, installed) for _, facts in known if _can_start(facts)}
        with _source(candidates, {facts.emulator.path for _, facts in known if not facts.problem}) as source:
            if source.note:
                return CertifyReport((), exit_code(()), uri=connection.uri, notes=(source.note,))
            results = tuple(_certified(known, off, source.find, request.mode))
        return CertifyReport(results, exit_code(results), source.packages, uri=connection.uri)


@dataclass(frozen=True)
class Source:
    """``find`` gives the candidate; ``note`` says why there is none."""

    find: Find
    packages: tuple[str, ...] = ()
    note: str = ""


@contextmanager
def _source(candidates: Candidates, paths: set[str]) -> Iterator[Source]:
    """``paths`` are the emulators of the running domains; without any nothing is tried.

    Raises HostError if a file isn't a package, or apt can't be asked.
    """
    if candidates.emulator is not None or not paths:
        yield Source(_working)
    elif not candidates.archive:
        with _unpacked([Path(name) for name in candidates.packages], paths) as source:
            yield source
    elif packages := apt.upgrades(paths):
        with unpacked.directory() as place, _unpacked(apt.download(packages, place), paths) as source:
            yield source
    else:
        yield Source(_working, note=f"apt has nothing newer than what is installed for {', '.join(sorted(paths))}")


@contextmanager
def _unpacked(packages: list[Path], paths: set[str]) -> Iterator[Source]:
    with unpacked.unpack(packages) as files:
        if not any(map(files.has, paths)):
            raise HostError(
                f"none of the packages has {' or '.join(sorted(paths))}, which the domains use",
                hint="give the file of the package that has it, and of those that it needs: --package FILE",
            )
        emulators = Emulators()

        def find(installed: Emulator) -> Emulator:
            if not files.has(installed.path):
                return Emulator(installed.path, problem=ELSEWHERE)
            # Where it will be installed libvirt's daemon may run it as what is there now.
            candidate = _working(emulators.get(files.emulator(installed.path)))
            return replace(candidate, forbidden_by=installed.forbidden_by)

        yield Source(find, tuple(package.name for package in packages))


def _working(candidate: Emulator) -> Emulator:
    if candidate.problem:
        raise HostError(
            f"the candidate can't be run: {candidate.path} {candidate.problem}",
            hint="if a library is missing, give its package, too: --package FILE",
        )
    return candidate


def _can_start(facts: DomainFacts) -> bool:
    """Whether libvirt could start it now: it doesn't run, and `restore` doesn't wait for it."""
    return facts.id is None and not facts.problem and not facts.waits


def _defined(connection: Connection, facts: DomainFacts, emulators: Emulators) -> Defined | str:
    """What libvirt would start, or why it couldn't."""
    try:
        return look(connection, replace(facts, emulator=emulators.get(facts.live.emulator)))
    except VirtcprError as error:
        return error.message


def _certified(
    known: list[tuple[Domain, DomainFacts]], off: Mapping[str, Defined | str], find: Find, asked: Mode | None
) -> Iterator[CertifiedDomain]:
    """The domains in their order; ``off`` are those that don't run, by UUID."""
    decisions = [_decided(domain, facts, off.get(facts.uuid), find, asked) for domain, facts in known]
    for tried in AVAILABLE:
        rehearse_both_ways([case for _, mode, case in decisions if mode is tried], tried)
    shapes: dict[str, int] = {}
    for decision, mode, case in decisions:
        number = shapes.setdefault(case.shape, len(shapes) + 1) if case.shape else None
        if case.facts.uuid in off:
            version = case.defined.emulator.version if case.defined else ""
            yield judge_defined(case.facts, version, mode, number, case.result, case.back)
        else:
            yield judge(decision, asked, mode, number, case.result, case.back)


def _decided(
    domain: Domain, facts: DomainFacts, off: Defined | str | None, find: Find, asked: Mode | None
) -> tuple[Decision, Mode | None, Case]:
    """What stands against a move, the mode to rehearse, None without a twin, and the case; then it has its result."""
    decision = decide(replace(facts, emulator=find(facts.emulator)) if facts.process or off else facts)
    case = Case(decision.facts, domain.monitor)
    if off is None:
        return decision, mode_for(decision, asked), case
    candidate = decision.facts.emulator
    if isinstance(off, Defined) and not candidate.problem:
        case.defined = off
        return decision, mode_for_defined(decision.facts, asked), case
    words = off if isinstance(off, str) else f"{candidate.path} {candidate.problem}"
    case.result = Rehearsal(Trial.UNSURE, words)
    return decision, None, case
