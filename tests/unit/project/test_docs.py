"""docs/findings.md is the table of rules, and says which of them were seen on real domains."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import pytest

from tests.lab.support.findings_seen import NOT_IN_LAB, SEEN
from tests.paths import ROOT, lab_module
from tests.unit.support.findings import GROUPS
from virtcpr.model import Mode
from virtcpr.plan.findings.rule import Needs, Rule
from virtcpr.plan.reboot_recovery import Found, Purpose, Stage, remedy
from virtcpr.plan.steps import State
from virtcpr.plan.transfer_recovery import New, Old, verdict

PAGE = ROOT / "docs/findings.md"
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
    return HEAD + "".join(f"\n## {title}\n\n" + "\n".join(rows(group)) + "\n" for title, group in GROUPS)


def rows(group: Sequence[Rule]) -> Iterator[str]:
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


RECOVERY = ROOT / "docs/recovery.md"
RECOVERY_HEAD = """# Recovery

What becomes of a swap that was interrupted: virtcpr killed, a QEMU killed, the daemon started in the middle. `virtcpr
recover`, libvirt's `daemon` hook (`virtcpr hooks install`) and the guardian all do the same: read the journal
(`/run/virtcpr/journal/UUID.json`), look at both processes, and take the verdict from this table.

| verdict | what is done |
|---|---|
| back | new QEMU is killed; old runs the guest as before, its settings and the taps' put back |
| forward | old QEMU is killed; new runs the guest, and libvirt's record says so |
| reset | new QEMU is gone, and may have run: old runs the guest after a reset, as after a power failure |
| lost | nobody has the guest's state: what is left of either process is killed; `virsh start` boots it |
| nothing | it is settled already |
| unknown | nothing is done to either process, exit code 6: look at both. libvirt's record is held aside |

How a process is found: *gone* (a process that has its number but another start time is never touched); *silent*: it is
alive, but its monitor doesn't answer within two seconds, and it isn't just about to end; *incoming*: new waits for the
guest's state; *received*: new has all of it and never ran; the others are QEMU's own words. Where new may have run, the
guest's RAM, which both share, is newer than what old knows of its devices: old never resumes it then. A guest that its
user had suspended never ran in new: where the table says reset, it is only given back, suspended.

Before the daemon starts, the process that got the guest is asked what libvirt will ask it. Where libvirt would kill it,
and wherever a swap can't be settled or its journal can't be read, libvirt's record of the domain is **held** in
`/run/virtcpr/held`: the guest runs on, libvirt shows the domain as shut off (a transient one not at all), its `qemu`
hook refuses to start it, and the exit code is 6. `virtcpr recover DOMAIN` looks again, and gives the record back when
all agrees. A domain that was started a second time all the same is left alone, as are all of its processes. Where a
journal that can't be read was removed, the record is given back when its own process answers, or has ended, and no
other has the monitor.

The **guardian** is a transient systemd unit; without systemd, and for a user's own libvirt, it is a child in its own
session, which has the lock on the daemon's driver, too. It is armed before the daemon is stopped, settles the swap and
starts the daemon when virtcpr dies, and is ended by virtcpr otherwise. Where nobody settles it, the daemon hook does
when the daemon is started next, before libvirt reads its records; a user's own libvirt has no hook.

This page is generated: `VIRTCPR_GOLDEN=write make unit`.
"""
SAVED_HEAD = """
## Saves and restores: mode reboot

A guest whose state goes to a file has a record instead, `/var/lib/virtcpr/saved/UUID/record.json`. `virtcpr recover`
the guardian read it, look at the domain's process, which libvirt's daemon must know for that, and act by the tables
below. Which stage is written when: *saving* before QEMU writes anything; *saved* when the file is whole, before the old
process is ended; *starting* before libvirt starts the domain again; *resuming* before the new process may run the
guest. That is the point of no return: the file is never used again.

| remedy | what is done |
|---|---|
| back | the guest goes on in its old process, the file is removed |
| wait | a process that never ran the guest is ended; the state waits for `virtcpr restore` |
| restore | the same, and libvirt starts the domain again from the file |
| forward | the new process runs the guest, the file is removed |
| lost | nobody has the guest's state: `virsh start` boots it |
| unknown | nothing is done, exit code 6: somebody started the domain otherwise, or it doesn't answer |

*new-waiting*: it has not, or not all, of the state; *new-loaded*: it has, and never ran. A state that waits keeps
libvirt from starting the domain afresh (the `qemu` hook); `virtcpr restore --discard` gives it up.
"""


def recovery_page() -> str:
    head = "| " + " | ".join(["old QEMU", *(f"new {new.value}" for new in New)]) + " |\n|" + "---|" * (len(New) + 1)
    parts = [RECOVERY_HEAD]
    for state in State:
        rows = (" | ".join([old.value, *(verdict(state, old, new).value for new in New)]) for old in Old)
        parts.append(f"\n## Journal: {state.value}\n\n{head}\n" + "".join(f"| {row} |\n" for row in rows))
    return "".join([*parts, *saved_guests()])


def saved_guests() -> Iterator[str]:
    """What becomes of an interrupted save or restore."""
    yield SAVED_HEAD
    columns = ["found", *(f"for {purpose.value}" for purpose in Purpose)]
    head = "| " + " | ".join(columns) + " |\n|" + "---|" * len(columns)
    for stage in Stage:
        yield f"\n### Record: {stage.value}\n\n{head}\n"
        for found in Found:
            yield f"| {found.value} | " + " | ".join(remedy(stage, p, found).value for p in Purpose) + " |\n"


def test_the_page_on_recovery_is_the_table() -> None:
    if os.environ.get("VIRTCPR_GOLDEN") == "write":
        RECOVERY.write_text(recovery_page())
    assert RECOVERY.read_text() == recovery_page(), "write it anew: VIRTCPR_GOLDEN=write make unit"


def test_every_finding_was_seen_or_cannot_be() -> None:
    codes = {rule.code for _, group in GROUPS for rule in group}
    assert codes == SEEN.keys() | NOT_IN_LAB.keys()
    assert not SEEN.keys() & NOT_IN_LAB.keys()


@pytest.mark.parametrize("code", sorted(SEEN))
def test_the_test_that_saw_it_names_it(code: str) -> None:
    assert f'"{code}"' in lab_module(SEEN[code]).read_text()
