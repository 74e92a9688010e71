"""The results of rehearsals, kept until the host boots: ``upgrade`` need not repeat what ``plan`` rehearsed.

So are the refusals of real guests: a guest isn't paused again for what is known to fail.
"""

from __future__ import annotations

import hashlib
import json
import logging

from virtcpr.errors import HostError
from virtcpr.host.files.atomic import write_private
from virtcpr.host.system.lock import RUN_DIR
from virtcpr.model import Rehearsal, Trial

log = logging.getLogger(__name__)

PATH = RUN_DIR / "rehearsals.json"
SCHEMA = 1
LAST = 500


def key(*parts: str) -> str:
    """A name for what a result depends on."""
    return hashlib.sha256("\0".join((str(SCHEMA), *parts)).encode()).hexdigest()


def read() -> dict[str, Rehearsal]:
    """The known results; empty if the file can't be read or understood: then everything is rehearsed again."""
    try:
        document = json.loads(PATH.read_text(encoding="utf-8"))
        return {str(name): Rehearsal(Trial(trial), *map(str, rest)) for name, (trial, *rest) in document.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def note(name: str, result: Rehearsal) -> None:
    """Keep the result of this ``key``, unless it tells nothing.  If that fails, the case is rehearsed again."""
    if result.trial is Trial.UNSURE:
        return
    kept = [*read().items(), (name, result)][-LAST:]
    document = {of: _line(rehearsal) for of, rehearsal in kept}
    try:
        write_private(PATH, json.dumps(document))
    except HostError as error:
        log.info("%s", error.message)


def _line(result: Rehearsal) -> tuple[str, ...]:
    line = (result.trial.value, result.words, result.refused_at)
    return line if result.refused_at else line[:2]
