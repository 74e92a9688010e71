"""docs/findings.md has the rules, and says which of them were seen on real domains; docs/recovery.md the verdicts."""

from __future__ import annotations

import re

import pytest

from tests.lab.support.findings_seen import NOT_IN_LAB, SEEN
from tests.paths import ROOT, lab_module
from tests.unit.support.findings import GROUPS
from tests.unit.support.generated import DOCS, check, table
from virtcpr.model import Mode
from virtcpr.plan.findings.rule import Needs, Rule
from virtcpr.plan.reboot.recovery import Found, Purpose, Stage, remedy
from virtcpr.plan.steps import State
from virtcpr.plan.transfer.recovery import New, Old, verdict

COLUMNS = ("code", "severity", "modes", "message", "remedy", "known from", "seen")


def row(rule: Rule) -> tuple[str, ...]:
    modes = "all" if len(rule.modes) == len(Mode) else ", ".join(mode.value for mode in rule.modes)
    code = f"`{rule.code}`" + (" (not running)" if rule.needs is Needs.STOPPED else "")
    seen = "yes" if rule.code in SEEN else f"no: {NOT_IN_LAB[rule.code]}"
    remedy = rule.remedy.replace(
        "{how}", "'virtcpr prepare --live {name}', or 'virtcpr prepare {name}' and then shut it down and start it"
    )
    remedy = remedy.replace("{{", "{").replace("}}", "}")  # as str.format_map would: it is to be copied
    return code, rule.severity.value, modes, rule.message, remedy, rule.source, seen


def test_commands_in_messages_quote_the_domain() -> None:
    """A name may have spaces in it; those of findings are quoted by ``Rule.finding``."""
    bare = re.compile(r"(?:virsh|virtcpr) [a-z-]+(?: --?[a-z-]+)* \{(?!quote\()[^{}]*name[^{}]*\}")
    texts = {path: path.read_text() for path in sorted((ROOT / "virtcpr/actions").rglob("*.py"))}
    found = {path.name: bare.findall(text) for path, text in texts.items()}
    constants = {"saves.py": 1, "validate.py": 1}  # they are filled in with a quoted one
    assert {name: len(bare) for name, bare in found.items() if bare} == constants


def test_the_page_on_findings_has_every_rule() -> None:
    tables = {f"findings-{key}": table(COLUMNS, map(row, group)) for key, group in GROUPS.items()}
    check(DOCS / "findings.md", tables)


def journal(state: State) -> str:
    """The verdict on a swap that was interrupted in this state."""
    columns = ["old QEMU", *(f"new {new.value}" for new in New)]
    return table(columns, ([old.value, *(verdict(state, old, new).value for new in New)] for old in Old))


def record(stage: Stage) -> str:
    """What becomes of a save or a restore that was interrupted in this stage."""
    columns = ["found", *(f"for {purpose.value}" for purpose in Purpose)]
    return table(columns, ([found.value, *(remedy(stage, p, found).value for p in Purpose)] for found in Found))


def test_the_page_on_recovery_has_every_verdict() -> None:
    tables = {f"journal-{state.value}": journal(state) for state in State}
    tables |= {f"record-{stage.value}": record(stage) for stage in Stage}
    check(DOCS / "recovery.md", tables)


def test_every_finding_was_seen_or_cannot_be() -> None:
    codes = {rule.code for group in GROUPS.values() for rule in group}
    assert codes == SEEN.keys() | NOT_IN_LAB.keys()
    assert not SEEN.keys() & NOT_IN_LAB.keys()


@pytest.mark.parametrize("code", sorted(SEEN))
def test_the_test_that_saw_it_names_it(code: str) -> None:
    assert f'"{code}"' in lab_module(SEEN[code]).read_text()


def test_what_was_run_names_tests_that_are_there() -> None:
    rows = [row for row in (DOCS / "tested.md").read_text().splitlines() if row.startswith("| ")][1:]
    assert len(rows) > 10
    for row in rows:
        module, _, name = row.split(" | ")[-1].removesuffix(" |").partition("::")
        assert f"def {name}(" in lab_module(module).read_text(), row
