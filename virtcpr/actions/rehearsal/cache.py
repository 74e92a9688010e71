"""The results of rehearsals, kept until the host boots: ``plan`` has the work, ``upgrade`` finds it done."""

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
    """Those that are known.  A file that can't be read or understood is none: everything is rehearsed anew."""
    try:
        document = json.loads(PATH.read_text(encoding="utf-8"))
        return {str(key): Rehearsal(Trial(trial), str(words)) for key, (trial, words) in document.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def note(key: str, result: Rehearsal) -> None:
    """Keep a result; not one that tells nothing.  Where that fails it is rehearsed again."""
    if result.trial is Trial.UNSURE:
        return
    kept = [*read().items(), (key, result)][-LAST:]
    try:
        write_private(PATH, json.dumps({key: (result.trial.value, result.words) for key, result in kept}))
    except HostError as error:
        log.info("%s", error.message)
