"""virtcpr.toml: what it may say, and how everything else is refused."""

from __future__ import annotations

import pytest

from tests.paths import ROOT
from virtcpr.errors import ParseError
from virtcpr.plan.policy import KEYS, Auto, Fallback, Policy, policy
from virtcpr.plan.windows import Freeze, Moment, Window

ALL = """
auto = "apply"
windows = ["22:00-06:00", "12:00-13:30"]
freeze = ["2026-12-20..2027-01-06", "*-12-24"]
max-pause-ms = 500
canary = 2
wave = 5
pause-between-s = 60
parallel = 4
fallback = "reboot"

[results]
prometheus = "/var/lib/prometheus/node-exporter/virtcpr.prom"
mail = "root"
ping = "https://hc.example/6a7c"
webhook = "http://127.0.0.1:8080/in?x=1"
"""


def test_the_defaults() -> None:
    assert policy([]) == policy([("virtcpr.toml", "")]) == Policy()
    assert (Policy().auto, Policy().fallback, Policy().canary) == (Auto.NOTIFY, Fallback.NOTIFY, 1)
    assert Policy().open(Moment(2026, 11, 28, 5, 0))


def test_every_key() -> None:
    assert policy([("virtcpr.toml", ALL)]) == Policy(
        auto=Auto.APPLY,
        windows=(Window(22 * 60, 6 * 60), Window(12 * 60, 13 * 60 + 30)),
        freeze=(Freeze((2026, 12, 20), (2027, 1, 6)), Freeze((12, 24), (12, 24))),
        max_pause_ms=500,
        canary=2,
        wave=5,
        pause_between_s=60,
        parallel=4,
        fallback=Fallback.REBOOT,
        prometheus="/var/lib/prometheus/node-exporter/virtcpr.prom",
        mail="root",
        ping="https://hc.example/6a7c",
        webhook="http://127.0.0.1:8080/in?x=1",
    )
    assert {key.member for key in KEYS.values()} == set(Policy.__dataclass_fields__)


def test_the_page_on_auto_has_every_key_with_its_default() -> None:
    block = (ROOT / "docs/auto.md").read_text().partition("```toml\n")[2].partition("```")[0]
    assert policy([("auto.md", block)]) == Policy()
    for key in KEYS:
        assert f"\n{key.rpartition('.')[2]} = " in f"\n{block}"


def test_later_files_win_key_by_key() -> None:
    merged = policy(
        [
            ("virtcpr.toml", ALL),
            ("10.toml", 'auto = "off"\n[results]\nmail = "me@example.org"'),
            ("20.toml", 'auto = "notify"'),
        ]
    )
    assert (merged.auto, merged.mail, merged.canary) == (Auto.NOTIFY, "me@example.org", 2)
    assert merged.prometheus.endswith("virtcpr.prom")


def at(minute: int = 0, weekday: int = 5, date: tuple[int, int, int] = (2026, 11, 28)) -> Moment:
    """A Saturday."""
    return Moment(*date, weekday, minute)


@pytest.mark.parametrize(
    ("windows", "shown", "inside", "outside"),
    [
        ("Sat,Sun 08:00-20:00", "Sat,Sun 08:00-20:00", ((5, 8), (6, 19)), ((5, 20), (4, 12), (0, 12))),
        ("Mon..Wed,Fri 01:00-02:00", "Mon,Tue,Wed,Fri 01:00-02:00", ((0, 1), (2, 1), (4, 1)), ((3, 1), (5, 1))),
        ("Sat..Mon 01:00-02:00", "Mon,Sat,Sun 01:00-02:00", ((5, 1), (6, 1), (0, 1)), ((1, 1), (4, 1))),
        ("Sun 22:00-06:00", "Sun 22:00-06:00", ((6, 23), (0, 5)), ((6, 5), (0, 23), (5, 23))),
    ],
)
def test_windows_of_the_week(
    windows: str, shown: str, inside: tuple[tuple[int, int], ...], outside: tuple[tuple[int, int], ...]
) -> None:
    """One that crosses midnight belongs to the day on which it begins."""
    parsed = policy([("virtcpr.toml", f'windows = ["{windows}"]')])
    assert [parsed.open(at(hour * 60, day)) for day, hour in inside] == [True] * len(inside)
    assert [parsed.open(at(hour * 60, day)) for day, hour in outside] == [False] * len(outside)
    assert [str(window) for window in parsed.windows] == [shown]


@pytest.mark.parametrize(
    ("freeze", "frozen", "free"),
    [
        ("2026-12-20..2027-01-06", ((2026, 12, 20), (2027, 1, 6)), ((2026, 12, 19), (2027, 1, 7), (2027, 12, 24))),
        ("2026-11-27", ((2026, 11, 27),), ((2026, 11, 28), (2025, 11, 27))),
        ("*-12-24..*-12-26", ((2026, 12, 24), (2030, 12, 26)), ((2026, 12, 23), (2026, 12, 27))),
        ("*-12-28..*-01-02", ((2026, 12, 31), (2027, 1, 2)), ((2027, 1, 3), (2026, 12, 27))),
    ],
)
def test_dates_on_which_nothing_is_moved(
    freeze: str, frozen: tuple[tuple[int, int, int], ...], free: tuple[tuple[int, int, int], ...]
) -> None:
    """Whatever the windows say."""
    parsed = policy([("virtcpr.toml", f'freeze = ["{freeze}"]\nwindows = ["00:00-24:00"]')])
    assert [parsed.open(at(date=date)) for date in frozen] == [False] * len(frozen)
    assert [parsed.open(at(date=date)) for date in free] == [True] * len(free)
    assert [str(one) for one in parsed.freeze] == [freeze]


@pytest.mark.parametrize(
    ("windows", "inside", "outside"),
    [
        ('["22:00-06:00"]', (22 * 60, 0, 5 * 60 + 59), (6 * 60, 12 * 60, 22 * 60 - 1)),
        ('["12:00-13:00"]', (12 * 60, 13 * 60 - 1), (0, 13 * 60, 12 * 60 - 1)),
        ('["00:00-24:00"]', (0, 24 * 60 - 1), ()),
        ('["23:00-24:00", "00:00-01:00"]', (23 * 60, 0, 59), (60, 23 * 60 - 1)),
    ],
)
def test_windows(windows: str, inside: tuple[int, ...], outside: tuple[int, ...]) -> None:
    parsed = policy([("virtcpr.toml", f"windows = {windows}")])
    assert [parsed.open(at(minute)) for minute in inside] == [True] * len(inside)
    assert [parsed.open(at(minute)) for minute in outside] == [False] * len(outside)
    assert str(list(map(str, parsed.windows))).replace("'", '"') == windows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('auto = "on"', """a.toml: 'auto' must be "off", "notify" or "apply", not 'on'"""),
        ("auto = true", "'auto' must be"),
        ('windows = "22:00-06:00"', "'windows' must be a list of local times"),
        ('windows = ["22-06"]', "'windows' must be"),
        ('windows = ["22:00-22:00"]', "'windows' must be"),
        ('windows = ["22:00-25:00"]', "'windows' must be"),
        ('windows = ["24:00-06:00"]', "'windows' must be"),
        ("windows = [[]]", "'windows' must be"),
        ('windows = ["Sun..Mo 22:00-06:00"]', "'windows' must be"),
        ('windows = [" 22:00-06:00"]', "'windows' must be"),
        ('windows = ["Sat, Sun 22:00-06:00"]', "'windows' must be"),
        ('freeze = "2026-12-20"', "'freeze' must be a list of dates"),
        ('freeze = ["20.12.2026"]', "'freeze' must be"),
        ('freeze = ["2026-13-01"]', "'freeze' must be"),
        ('freeze = ["2027-01-06..2026-12-20"]', "'freeze' must be"),
        ('freeze = ["2026-12-20..*-12-24"]', "'freeze' must be"),
        ("max-pause-ms = -1", "'max-pause-ms' must be a whole number, 0 or more, not -1"),
        ("max-pause-ms = 1.5", "'max-pause-ms' must be"),
        ("canary = true", "'canary' must be"),
        ('parallel = "2"', "'parallel' must be"),
        ('fallback = "live"', """'fallback' must be "notify" or "reboot", not 'live'"""),
        (
            '[results]\nprometheus = "virtcpr.prom"',
            "'results.prometheus' must be an absolute path that ends with .prom",
        ),
        ('[results]\nprometheus = "/var/lib/virtcpr.txt"', "'results.prometheus' must be"),
        ('[results]\nprometheus = "/a\\nb.prom"', "'results.prometheus' must be"),
        ('[results]\nmail = "-oQ/tmp"', "'results.mail' must be one address"),
        ('[results]\nmail = "a@b, c@d"', "'results.mail' must be"),
        ('[results]\nmail = "é@b"', "'results.mail' must be"),
        ('[results]\nmail = "a@b\\nBcc: c@d"', "'results.mail' must be"),
        ('atuo = "off"', "a.toml: there is no key 'atuo'"),
        ('[results]\nmial = "root"', "there is no key 'results.mial'"),
        ("results = 1", "there is no key 'results'"),
        ("[auto]\nx = 1", "'auto' must be"),
        ('[results]\nping = "file:///etc/shadow"', "'results.ping' must be a URL of http or https"),
        ('[results]\nwebhook = "https://"', "'results.webhook' must be a URL"),
        ('[results]\nwebhook = "https://a b"', "'results.webhook' must be a URL"),
        ('mail = "root"', "there is no key 'mail'"),
        ("auto = off", "a.toml isn't TOML: "),
        ('auto = "off"\nauto = "apply"', "a.toml isn't TOML: "),
    ],
)
def test_everything_else_is_refused(text: str, message: str) -> None:
    with pytest.raises(ParseError) as refused:
        policy([("virtcpr.toml", ALL), ("a.toml", text)])
    assert message in refused.value.message
    assert "nothing was done" in refused.value.message
    assert refused.value.hint
