"""What `auto` reported last, so that a daily look reports only what is new."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import suppress

from virtcpr.errors import HostError
from virtcpr.host.files.atomic import write_private
from virtcpr.host.system.paths import PATHS

log = logging.getLogger(__name__)
PATH = PATHS.state / "told.json"


def is_news(lines: Sequence[str]) -> bool:
    """Whether this isn't what was reported last; it is from now on.  If that can't be kept, it is reported again."""
    with suppress(OSError, ValueError):
        if json.loads(PATH.read_text(encoding="utf-8")) == list(lines):
            return False
    try:
        write_private(PATH, json.dumps(list(lines)))
    except HostError as error:
        log.info("%s", error.message)
    return True
