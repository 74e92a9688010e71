"""When guests may be moved: windows of the day and of the week, and dates on which none is.  Pure: no clock.

The words are those of systemd's calendar events (systemd.time(7)): ``Mon..Fri``, ``Sat,Sun``, ``2026-12-20``,
``*-12-24``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

DAY = 24 * 60
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
DATE = re.compile(r"(?:(\d{4})|\*)-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])")


@dataclass(frozen=True)
class Moment:
    """A minute, in local time: ``weekday`` is 0 for Monday, ``minute`` counts from midnight."""

    year: int
    month: int
    day: int
    weekday: int
    minute: int


@dataclass(frozen=True)
class Window:
    """A span of the day, in minutes since local midnight; ``end`` is excluded.

    It may cross midnight: then it belongs to the day on which it begins.  ``days`` are weekdays, empty for every day.
    """

    begin: int
    end: int
    days: frozenset[int] = frozenset()

    def __contains__(self, moment: Moment) -> bool:
        minute, today, yesterday = moment.minute, moment.weekday, (moment.weekday - 1) % 7
        if self.begin < self.end:
            return self.begin <= minute < self.end and self._on(today)
        return (minute >= self.begin and self._on(today)) or (minute < self.end and self._on(yesterday))

    def _on(self, weekday: int) -> bool:
        return not self.days or weekday in self.days

    def __str__(self) -> str:
        days = f"{','.join(DAYS[day] for day in sorted(self.days))} " if self.days else ""
        return f"{days}{_clock(self.begin)}-{_clock(self.end)}"


@dataclass(frozen=True)
class Freeze:
    """Dates, the last one included, each (year, month, day) or (month, day) of every year."""

    first: tuple[int, ...]
    last: tuple[int, ...]

    def __contains__(self, moment: Moment) -> bool:
        date = (moment.year, moment.month, moment.day)[-len(self.first) :]
        if self.first <= self.last:
            return self.first <= date <= self.last
        return date >= self.first or date <= self.last  # over the end of the year

    def __str__(self) -> str:
        return _date(self.first) if self.first == self.last else f"{_date(self.first)}..{_date(self.last)}"


def allowed(moment: Moment, windows: Sequence[Window], freezes: Sequence[Freeze]) -> bool:
    """Whether guests may be moved then; without windows always, but on frozen dates."""
    if any(moment in freeze for freeze in freezes):
        return False
    return not windows or any(moment in window for window in windows)


def window(text: str) -> Window:
    """``[DAYS ]HH:MM-HH:MM``.  Raises ValueError."""
    days, _, span = text.rpartition(" ")
    begin, dash, end = span.partition("-")
    if not dash or begin == end or (not days and text != span):
        raise ValueError
    return Window(_minute(begin), DAY if end == "24:00" else _minute(end), _days(days))


def freeze(text: str) -> Freeze:
    """``DATE`` or ``DATE..DATE``, both with a year or neither.  Raises ValueError."""
    first, dots, last = text.partition("..")
    dates = _parsed_date(first), _parsed_date(last if dots else first)
    if len(dates[0]) != len(dates[1]) or (len(dates[0]) == 3 and dates[0] > dates[1]):
        raise ValueError
    return Freeze(*dates)


def _days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(",") if text else ():
        first, dots, last = part.partition("..")
        begin, end = DAYS.index(first), DAYS.index(last if dots else first)
        days |= {(begin + number) % 7 for number in range((end - begin) % 7 + 1)}
    return frozenset(days)


def _minute(text: str) -> int:
    match = CLOCK.fullmatch(text)
    if not match:
        raise ValueError
    return int(match[1]) * 60 + int(match[2])


def _parsed_date(text: str) -> tuple[int, ...]:
    match = DATE.fullmatch(text)
    if not match:
        raise ValueError
    return tuple(int(part) for part in match.groups() if part is not None)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _date(date: tuple[int, ...]) -> str:
    year = f"{date[0]:04}" if len(date) == 3 else "*"
    return f"{year}-{date[-2]:02}-{date[-1]:02}"
