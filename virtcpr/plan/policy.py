"""What the administrator allows `virtcpr auto` to do: virtcpr.toml, parsed.  A key is a row of ``KEYS``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from virtcpr.errors import ParseError
from virtcpr.plan.windows import Freeze, Moment, Window, allowed, freeze, window

ADDRESS = re.compile(r"[^\s,;<>\"-][^\s,;<>\"]*")  # sendmail must not take it for an option

URL = re.compile(r"https?://[^\s/?#]+[^\s#]*")


class Auto(Enum):
    """What to do with domains that run an outdated QEMU."""

    OFF = "off"
    NOTIFY = "notify"
    APPLY = "apply"


class Fallback(Enum):
    """What to do with a domain that mode transfer can't move."""

    NOTIFY = "notify"
    REBOOT = "reboot"


class Prepare(Enum):
    """What to do with a domain that mode transfer can't move, but mode live can: most were never prepared."""

    NEVER = "never"
    LIVE = "live"


@dataclass(frozen=True)
class Policy:
    """The configuration; the defaults apply to an empty file.

    ``max_pause_ms`` is in milliseconds, ``max_blackout_s``, ``pause_between_s`` and ``watch_s`` in seconds.  0 means no
    limit there, in ``wave`` and in ``parallel``, and no canary in ``canary``.  ``keep_builds`` are kept for `undo`, for
    ``keep_days``; 0: none.
    """

    auto: Auto = Auto.NOTIFY
    windows: tuple[Window, ...] = ()
    freeze: tuple[Freeze, ...] = ()
    max_pause_ms: int = 0
    max_blackout_s: int = 0
    canary: int = 1
    wave: int = 0
    pause_between_s: int = 0
    parallel: int = 0
    fallback: Fallback = Fallback.NOTIFY
    prepare: Prepare = Prepare.NEVER
    prometheus: str = ""
    mail: str = ""
    ping: str = ""
    webhook: str = ""
    watch_s: int = 0
    keep_builds: int = 2
    keep_days: int = 30

    def open(self, moment: Moment) -> bool:
        """Whether guests may be moved then."""
        return allowed(moment, self.windows, self.freeze)


@dataclass(frozen=True)
class Key:
    """A key of the file: the member of Policy that it sets, its allowed values, and how it is read.

    ``read`` raises ValueError for anything else.
    """

    member: str
    must: str
    read: Callable[[object], object]


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError
    return value


def _textfile(value: object) -> str:
    text = _text(value)
    if text and not (text.startswith("/") and text.endswith(".prom")):
        raise ValueError
    return text


def _address(value: object) -> str:
    text = _text(value)
    if text and not (text.isascii() and ADDRESS.fullmatch(text)):
        raise ValueError
    return text


def _url(value: object) -> str:
    text = _text(value)
    if text and not (text.isascii() and URL.fullmatch(text)):
        raise ValueError
    return text


def _windows(value: object) -> tuple[Window, ...]:
    if not isinstance(value, list):
        raise ValueError
    return tuple(window(_text(item)) for item in value)


def _freezes(value: object) -> tuple[Freeze, ...]:
    if not isinstance(value, list):
        raise ValueError
    return tuple(freeze(_text(item)) for item in value)


NUMBER = "a whole number, 0 or more"
# By their names in the file; a key in a table has the table's name before it.
KEYS: Mapping[str, Key] = {
    "auto": Key("auto", '"off", "notify" or "apply"', Auto),
    "windows": Key("windows", 'a list of local times, as ["22:00-06:00", "Sat,Sun 08:00-20:00"]', _windows),
    "freeze": Key("freeze", 'a list of dates, as ["2026-12-20..2027-01-06", "*-12-24"]', _freezes),
    "max-pause-ms": Key("max_pause_ms", NUMBER, _number),
    "max-blackout-s": Key("max_blackout_s", NUMBER, _number),
    "canary": Key("canary", NUMBER, _number),
    "wave": Key("wave", NUMBER, _number),
    "pause-between-s": Key("pause_between_s", NUMBER, _number),
    "watch-s": Key("watch_s", NUMBER, _number),
    "parallel": Key("parallel", NUMBER, _number),
    "fallback": Key("fallback", '"notify" or "reboot"', Fallback),
    "prepare": Key("prepare", '"never" or "live"', Prepare),
    "keep.builds": Key("keep_builds", NUMBER, _number),
    "keep.days": Key("keep_days", NUMBER, _number),
    "results.prometheus": Key("prometheus", 'an absolute path that ends with .prom, or ""', _textfile),
    "results.mail": Key("mail", 'one address, or ""', _address),
    "results.ping": Key("ping", 'a URL of http or https, or ""', _url),
    "results.webhook": Key("webhook", 'a URL of http or https, or ""', _url),
}
TABLES = frozenset(name.partition(".")[0] for name in KEYS if "." in name)


def policy(documents: Sequence[tuple[str, str]]) -> Policy:
    """The policy of these files, each a name and a text; keys of later files win.

    Raises ParseError for the first error, with the file and the key.
    """
    values: dict[str, Any] = {}
    for name, text in documents:
        for key, value in _flat(name, text).items():
            if key not in KEYS:
                raise ParseError(
                    f"{name}: there is no key '{key}'; nothing was done", hint=f"the keys are: {', '.join(KEYS)}"
                )
            try:
                values[KEYS[key].member] = KEYS[key].read(value)
            except ValueError:
                raise ParseError(
                    f"{name}: '{key}' must be {KEYS[key].must}, not {value!r}; nothing was done",
                    hint="virtcpr.toml(5) lists the keys",
                ) from None
    return Policy(**values)


def _flat(name: str, text: str) -> dict[str, object]:
    """The keys of a file; a key in a table has the table's name before it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ParseError(
            f"{name} isn't TOML: {error}; nothing was done", hint="virtcpr.toml(5) shows the format"
        ) from error
    values: dict[str, object] = {}
    for key, value in document.items():
        if key in TABLES and isinstance(value, dict):
            values |= {f"{key}.{inner}": setting for inner, setting in value.items()}
        else:
            values[key] = value
    return values
