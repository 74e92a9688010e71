"""virtcpr.toml: what it may say, and how everything else is refused."""

from __future__ import annotations

import pytest

from tests.paths import ROOT
from virtcpr.errors import ParseError
from virtcpr.plan.policy import KEYS, Auto, Fallback, Policy, Window, policy

ALL = """
auto = "apply"
windows = ["22:00-06:00", "12:00-13:30"]
max-pause-ms = 500
canary = 2
parallel = 4
fallback = "reboot"

[results]
prometheus = "/var/lib/prometheus/node-exporter/virtcpr.prom"
mail = "root"
"""


def test_the_defaults() -> None:
    assert policy([]) == policy([("virtcpr.toml", "")]) == Policy()
    assert (Policy().auto, Policy().fallback, Policy().canary) == (Auto.NOTIFY, Fallback.NOTIFY, 1)
    assert Policy().open(0)


def test_every_key() -> None:
    assert policy([("virtcpr.toml", ALL)]) == Policy(
        auto=Auto.APPLY,
        windows=(Window(22 * 60, 6 * 60), Window(12 * 60, 13 * 60 + 30)),
        max_pause_ms=500,
        canary=2,
        parallel=4,
        fallback=Fallback.REBOOT,
        prometheus="/var/lib/prometheus/node-exporter/virtcpr.prom",
        mail="root",
    )
    assert {key.member for key in KEYS.values()} == set(Policy.__dataclass_fields__)


def test_the_page_on_auto_has_every_key_with_its_default() -> None:
    block = (ROOT / "docs/auto.md").read_text().partition("```toml\n")[2].partition("```")[0]
    assert policy([("auto.md", block)]) == Policy()
    for key in KEYS:
        assert f"\n{key.removeprefix('results.')} = " in f"\n{block}"


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
    assert [parsed.open(minute) for minute in inside] == [True] * len(inside)
    assert [parsed.open(minute) for minute in outside] == [False] * len(outside)
    assert str(list(map(str, parsed.windows))).replace("'", '"') == windows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('auto = "on"', """a.toml: 'auto' must be "off", "notify" or "apply", not 'on'"""),
        ("auto = true", "'auto' must be"),
        ('windows = "22:00-06:00"', "'windows' must be a list of local times of day"),
        ('windows = ["22-06"]', "'windows' must be"),
        ('windows = ["22:00-22:00"]', "'windows' must be"),
        ('windows = ["22:00-25:00"]', "'windows' must be"),
        ('windows = ["24:00-06:00"]', "'windows' must be"),
        ("windows = [[]]", "'windows' must be"),
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
