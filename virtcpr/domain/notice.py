"""What a guest wants to be told of before and after its pause: a program in it, named by the domain's metadata."""

from __future__ import annotations

from dataclasses import dataclass

from virtcpr.errors import ParseError

NOTICE_NS = "urn:virtcpr:notice:1"
SECONDS = 5.0
LONGEST = 60.0


@dataclass(frozen=True)
class Notice:
    """``command`` is a path in the guest; it may take ``timeout_s`` seconds.  ``veto``: if it fails before the pause,
    the guest isn't moved."""

    command: str
    timeout_s: float = SECONDS
    veto: bool = False


def notice(command: str | None, timeout: str | None, veto: str | None) -> Notice:
    """Of the attributes of ``<notice>``.  Raises ParseError."""
    if not command or not command.startswith("/"):
        raise ParseError(f"its metadata's <notice> needs a command, a path in the guest, not '{command or ''}'")
    try:
        seconds = SECONDS if timeout is None else float(timeout)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST:
        raise ParseError(f"its metadata's <notice> may have a timeout of up to {LONGEST:g} seconds, not '{timeout}'")
    if veto not in (None, "yes", "no"):
        raise ParseError(f"its metadata's <notice> may have the veto yes or no, not '{veto}'")
    return Notice(command, seconds, veto == "yes")
