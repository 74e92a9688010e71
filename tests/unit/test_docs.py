"""docs/findings.md is the table of rules, and says which of them were seen on real domains."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.lab.seen import NOT_IN_LAB, SEEN
from virtcpr.model import Mode
from virtcpr.plan import rules
from virtcpr.plan.findings import Needs, Rule
from virtcpr.plan.preparing import PREPARING

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/findings.md"
GROUPS: tuple[tuple[str, Sequence[Rule]], ...] = (
    ("State", rules.STATE),
    ("Emulator", rules.EMULATORS),
    ("Memory", rules.MEMORY),
    ("QEMU and libvirt at work", rules.MIGRATION),
    ("Devices", rules.DEVICES),
    ("Changed since the start", rules.DRIFT),
    ("Preparing", PREPARING),
)
HEAD = """# Findings

What can stop or spoil a move, as `virtcpr check` reports it. A *blocker* refuses the domain in the modes given, with
exit code 4 and nothing touched; a *warning* and an *info* don't. All findings of a domain are reported. In messages and
remedies `{…}` stands for what is found; `{name}` is the domain.

"Preparing" are those of `virtcpr prepare`; it reports the others that stay in the way as warnings. "Known from" is
where in QEMU, libvirt or Linux the reason lies, or what virtcpr can't do yet. "Seen": the finding was produced on a
real domain in the lab, a blocker was refused by `upgrade` for it, and it was gone with its cause; the others were only
tried on recorded facts, for the reason given.

This page is generated: `VIRTCPR_GOLDEN=write make unit`.
"""


def page() -> str:
    return HEAD + "".join(f"\n## {title}\n\n" + "\n".join(table(group)) + "\n" for title, group in GROUPS)


def table(group: Sequence[Rule]) -> Iterator[str]:
    yield "| code | severity | modes | message | remedy | known from | seen |"
    yield "|---|---|---|---|---|---|---|"
    for rule in group:
        modes = "all" if len(rule.modes) == len(Mode) else ", ".join(mode.value for mode in rule.modes)
        code = f"`{rule.code}`" + (" (not running)" if rule.needs is Needs.STOPPED else "")
        seen = "yes" if rule.code in SEEN else f"no: {NOT_IN_LAB[rule.code]}"
        remedy = rule.remedy.replace("{how}", "'virtcpr prepare {name}', then shut it down and start it")
        cells = (code, rule.severity.value, modes, rule.message, remedy, rule.source, seen)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def test_the_page_is_the_table() -> None:
    if os.environ.get("VIRTCPR_GOLDEN") == "write":
        PAGE.write_text(page())
    assert PAGE.read_text() == page(), "write it anew: VIRTCPR_GOLDEN=write make unit"


def test_every_finding_was_seen_or_cannot_be() -> None:
    codes = {rule.code for _, group in GROUPS for rule in group}
    assert codes == SEEN.keys() | NOT_IN_LAB.keys()
    assert not SEEN.keys() & NOT_IN_LAB.keys()


@pytest.mark.parametrize("code", sorted(SEEN))
def test_the_test_that_saw_it_names_it(code: str) -> None:
    assert f'"{code}"' in (ROOT / "tests/lab" / SEEN[code]).read_text()
