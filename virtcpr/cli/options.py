"""Arguments and options that several commands share, and their valid combinations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any

import typer

from virtcpr.cli import completion
from virtcpr.cli.backend import Nameable
from virtcpr.cli.session import Session
from virtcpr.errors import UsageError
from virtcpr.model import Mode, Request


class ModeChoice(StrEnum):
    """``--mode`` of commands that accept every mode."""

    AUTO = "auto"
    TRANSFER = "transfer"
    LIVE = "live"
    REBOOT = "reboot"
    EXEC = "exec"

    @property
    def mode(self) -> Mode | None:
        return None if self is ModeChoice.AUTO else Mode(self.value)


class AvailableMode(StrEnum):
    """``--mode`` of commands that rehearse moves: the modes of ``virtcpr.model.AVAILABLE``."""

    AUTO = "auto"
    TRANSFER = "transfer"
    LIVE = "live"
    REBOOT = "reboot"

    @property
    def mode(self) -> Mode | None:
        return None if self is AvailableMode.AUTO else Mode(self.value)


class UpgradeMode(StrEnum):
    """``--mode`` of commands that move domains: the same, and mode transfer, parked."""

    AUTO = "auto"
    TRANSFER = "transfer"
    PARKED = "parked"
    LIVE = "live"
    REBOOT = "reboot"

    @property
    def mode(self) -> Mode | None:
        return Mode.TRANSFER if self is UpgradeMode.PARKED else AvailableMode(self.value).mode


class FallbackChoice(StrEnum):
    """``--fallback``: what to do with domains that mode transfer can't move."""

    NONE = "none"
    REBOOT = "reboot"

    @property
    def mode(self) -> Mode | None:
        return None if self is FallbackChoice.NONE else Mode(self.value)


def domain_argument(which: Nameable, words: str = "Names, ids or UUIDs.") -> Any:
    """DOMAIN..., for which a shell completes these names."""
    return typer.Argument(help=words, show_default=False, autocompletion=completion.domains(which))


MaxPauseOption = Annotated[
    float | None,
    typer.Option("--max-pause", metavar="MS", help="Leave a domain alone whose forecast pause is longer."),
]
MaxBlackoutOption = Annotated[
    float | None,
    typer.Option(
        "--max-blackout",
        metavar="SECONDS",
        help="Move the domains in parts, so that libvirt's daemon is never away for longer, by the forecast.",
    ),
]

AnyDomain = Annotated[list[str] | None, domain_argument("all")]
RunningDomain = Annotated[list[str] | None, domain_argument("running")]
SavedDomain = Annotated[list[str] | None, domain_argument("saved", "Names or UUIDs.")]
InterruptedDomain = Annotated[list[str] | None, domain_argument("interrupted")]
AllOption = Annotated[bool, typer.Option("--all", help="Every running domain.")]
DefinedOption = Annotated[bool, typer.Option("--all", help="Every domain, running or not.")]
EmulatorOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Another QEMU than the installed one.",
        show_default=False,
        autocompletion=completion.emulators,
    ),
]
RehearseOption = Annotated[
    bool, typer.Option("--rehearse/--no-rehearse", help="Let a twin of each guest try it first, for a few seconds.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Move domains that run the installed QEMU already, too.")]
TryOption = Annotated[
    bool, typer.Option("--try", help="Move the one DOMAIN even with what mode transfer was never run with.")
]
UpgradeModeOption = Annotated[
    UpgradeMode, typer.Option("--mode", help="How to move them; auto is transfer, the others must be asked for.")
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout", metavar="SECONDS", help="With mode live: give up if a guest's RAM isn't copied by then (600)."
    ),
]
FallbackOption = Annotated[
    FallbackChoice,
    typer.Option("--fallback", help="How to move the domains that mode transfer can't move; none leaves them alone."),
]
SUSPEND = "guests suspend themselves to RAM before, and are woken up after; needs the guest agent."
SuspendOption = Annotated[bool, typer.Option("--suspend-guest", help=f"G{SUSPEND[1:]}")]
TemplateOption = Annotated[
    str | None,
    typer.Option("--template", metavar="NAME", help="Another template than the mode's default.", show_default=False),
]
YesOption = Annotated[bool, typer.Option("-y", "--yes", help="Ask nothing.")]
XmlOption = Annotated[
    str | None,
    typer.Option("--xml", metavar="FILE", help="A domain's XML instead of a domain; - is stdin.", show_default=False),
]


def request(session: Session, domains: list[str] | None, every: bool, emulator: str | None = None) -> Request:
    """:raise UsageError: for domains and ``--all`` together, or neither."""
    hint = f"try: virtcpr {session.command} --help"
    if every and domains:
        raise UsageError("name domains or give --all, not both", hint=hint)
    if not every and not domains:
        raise UsageError("which domains? Name them, or give --all", hint=hint)
    return Request(tuple(domains or ()), every, session.uri, emulator)


@dataclass(frozen=True)
class Moving:
    """What `plan` and `upgrade` are both told about the moves."""

    mode: UpgradeMode
    fallback: FallbackChoice
    max_pause: float | None
    max_blackout: float | None
    rehearse: bool
    force: bool
    trying: bool

    def request(self, session: Session, domains: list[str] | None, every: bool, emulator: str | None) -> Request:
        """:raise UsageError: for options that contradict each other."""
        refuse_trying_several(session, domains, self.trying)
        refuse_limits(self.max_pause, self.max_blackout, self.mode)
        return replace(
            request(session, domains, every, emulator),
            mode=self.mode.mode,
            parked=self.mode is UpgradeMode.PARKED,
            fallback=fallback(session, self.mode, self.fallback),
            rehearse=self.rehearse,
            force=self.force,
            trying=self.trying,
            max_pause_ms=self.max_pause,
            max_blackout_s=self.max_blackout,
        )


def fallback(session: Session, mode: UpgradeMode, choice: FallbackChoice) -> Mode | None:
    """:raise UsageError: unless there is mode transfer to fall back from."""
    if choice is FallbackChoice.REBOOT and mode not in (UpgradeMode.AUTO, UpgradeMode.TRANSFER):
        hint = f"try: virtcpr {session.command} --help"
        raise UsageError(
            f"--fallback reboot is for domains that mode transfer can't move, not for --mode {mode.value}", hint=hint
        )
    return choice.mode


def refuse_trying_several(session: Session, domains: list[str] | None, trying: bool) -> None:
    """:raise UsageError: if ``--try`` isn't for exactly one domain."""
    if trying and len(domains or ()) != 1:
        raise UsageError("--try is for one domain at a time: name it", hint=f"try: virtcpr {session.command} --help")


def refuse_beside_xml(session: Session, *others: object) -> None:
    """:raise UsageError: if ``--xml`` is combined with options that need a real domain."""
    if any(others):
        hint = f"try: virtcpr {session.command} --help"
        raise UsageError("--xml can't be combined with domains, or with options that need libvirt", hint=hint)


def refuse_limits(max_pause: float | None, max_blackout: float | None, mode: UpgradeMode) -> None:
    """Raises UsageError for limits that allow nothing, or that nothing keeps."""
    hint = "try: virtcpr upgrade --help"
    for name, value in (("--max-pause", max_pause), ("--max-blackout", max_blackout)):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{name} must be more than 0, not {value:g}", hint=hint)
    if max_blackout is not None and mode is UpgradeMode.REBOOT:
        raise UsageError("--max-blackout is for mode transfer: in mode reboot nothing limits a blackout", hint=hint)
