"""How the domains of an upgrade are divided into waves, and for how long they are watched afterwards."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rollout:
    """In what order, and how many at a time.

    ``canaries`` (names or UUIDs) and the first ``canary`` others go first; then at most ``wave`` at a time, None:
    all the others.  ``pause_s`` seconds lie between two waves.  After ``stop_after`` failures, or one of a canary, no
    other wave is begun; None: after any number.
    """

    canary: int = 0
    canaries: tuple[str, ...] = ()
    wave: int | None = None
    pause_s: float = 0.0
    stop_after: int | None = 1


@dataclass(frozen=True)
class Probation:
    """Guests are looked at for so many ``seconds`` after their move: one with a sign of trouble goes back, and with
    ``whole_wave`` all of its wave."""

    seconds: float
    whole_wave: bool = False
