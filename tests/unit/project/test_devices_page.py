"""docs/devices.md says what becomes of each device: every row by a test that is there, every refusal by a rule."""

from __future__ import annotations

import re

from tests.paths import lab_module
from tests.unit.support.findings import GROUPS
from tests.unit.support.generated import DOCS
from virtcpr.model import Mode, Severity
from virtcpr.plan.findings.table import DEVICES

PAGE = DOCS / "devices.md"
MAKEFILE = DOCS.parent / "Makefile"
# Findings on devices that aren't the page's subject: modes other than transfer, and what only KVM has.
NOT_A_DEVICE = {"hostdev-awake", "iotune", "invtsc", "hv-passthrough"}


def test_every_row_on_devices_names_a_test_that_is_there() -> None:
    rows = [row for row in PAGE.read_text().splitlines() if row.startswith("| ")]
    shown = [row.split(" | ")[-1].removesuffix(" |") for row in rows]
    tests = [cell for cell in shown if cell not in ("none", "shown by")]
    assert len(tests) > 40
    for cell in tests:
        module, _, name = cell.partition("::")
        assert f"def {name}(" in lab_module(module).read_text(), cell


def test_what_mode_live_does_too_is_run_with_it() -> None:
    """``make chaos`` runs these modules of tests again, by mode live."""
    again = "".join(re.findall(r"VIRTCPR_MODE=live(?:.*\\\n)*.*", MAKEFILE.read_text()))
    rows = [row.split(" | ") for row in PAGE.read_text().splitlines() if row.startswith("| ")]
    same = [(live, shown) for *_, live, shown in rows if live.startswith("as in a swap")]
    assert len(same) > 40
    for live, shown in same:
        module = shown.partition(".py::")[0].removeprefix("test_")
        assert "test_live.py" in live or re.search(rf"\b{module}\b", again), shown


def test_every_device_that_is_refused_is_on_the_page() -> None:
    page = PAGE.read_text()
    refused = {rule.code for rule in DEVICES if rule.severity is Severity.BLOCKER and Mode.TRANSFER in rule.modes}
    assert {code for code in refused if f"`{code}`" not in page} <= NOT_A_DEVICE
    named = set(re.findall(r"(?:refused|warning)[^|]*?: ((?:`[a-z-]+`(?:, )?)+)", page))
    codes = {code for group in named for code in re.findall(r"`([a-z-]+)`", group)}
    assert codes <= {rule.code for group in GROUPS.values() for rule in group}
