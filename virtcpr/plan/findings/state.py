"""The state of the domain and the emulator, which comes before all other checks."""

from __future__ import annotations

from collections.abc import Iterator

from virtcpr.plan.findings.rule import Hit, Subject, Test

# QEMU releases that brought a mode (docs/devel/migration/CPR.rst, qapi/migration.json).
SINCE = {"cpr-reboot": (8, 2, 0), "cpr-transfer": (10, 0, 0), "cpr-exec": (10, 2, 0)}
TRIED = (10, 0), (11, 1)  # releases that the lab ran mode reboot with: the first and the last
# Names without a version: aliases of the newest version, and types without versions (hw/*/; query-machines).
ALIASES = frozenset(["pc", "q35", "ubuntu", "ubuntu-q35", "pseries", "s390-ccw-virtio"])
UNVERSIONED = ALIASES | frozenset(["virt", "microvm", "isapc", "xenfv"])


def not_running(subject: Subject) -> Iterator[Hit]:
    facts = subject.facts
    if facts.process is None and facts.problem is None and not facts.waits:
        yield {"state": facts.state}


def waits_for_restore(subject: Subject) -> Iterator[Hit]:
    """libvirt's hook (hooks/libvirt-qemu) refuses to start it."""
    if subject.facts.process is None and subject.facts.waits:
        yield {}


def not_readable(subject: Subject) -> Iterator[Hit]:
    if subject.facts.problem is not None:
        yield {"problem": subject.facts.problem}


def of_a_user(subject: Subject) -> Iterator[Hit]:
    if subject.facts.session:
        yield {}


def paused(subject: Subject) -> Iterator[Hit]:
    if subject.facts.state == "paused" and subject.facts.reason != "user":
        yield {"reason": subject.facts.reason}


def in_another_state(subject: Subject) -> Iterator[Hit]:
    if subject.facts.state not in ("running", "paused", "idle", "pmsuspended"):
        yield {"state": subject.facts.state}


def suspended(subject: Subject) -> Iterator[Hit]:
    """To RAM, by the guest itself."""
    if subject.facts.state == "pmsuspended" or subject.qemu.status == "suspended":
        yield {}


def awake(subject: Subject) -> Iterator[Hit]:
    if subject.qemu.status != "suspended" and subject.live.matches(
        "devices/hostdev[@type='pci' or @type='mdev'] or devices/interface/@type='hostdev'"
    ):
        yield {}


def in_another_qemu_state(subject: Subject) -> Iterator[Hit]:
    """For example, a guest that was started paused is `prelaunch` in QEMU and `paused` in libvirt."""
    if subject.facts.reason in ("", "user") and subject.qemu.status not in ("running", "paused", "suspended"):
        yield {"status": subject.qemu.status}


def emulator_unusable(subject: Subject) -> Iterator[Hit]:
    emulator = subject.facts.emulator
    if emulator.problem:
        yield {"path": emulator.path, "problem": emulator.problem}


def emulator_forbidden(subject: Subject) -> Iterator[Hit]:
    """The daemon runs what its record names, and nothing else."""
    emulator = subject.facts.emulator
    if emulator.forbidden_by and not emulator.known_as:
        yield {"path": emulator.path, "profile": emulator.forbidden_by}


def emulator_confined(subject: Subject) -> Iterator[Hit]:
    """libvirt's child takes on the guest's profile before it runs the emulator; virtcpr's own takes it on with it."""
    if subject.facts.process is not None and not subject.facts.process.may_run:
        yield {"path": subject.facts.emulator.path}


def profile_not_loaded(subject: Subject) -> Iterator[Hit]:
    """Its next start will load it; new QEMU runs under what is loaded."""
    process = subject.process
    if process.may_run and not process.may_run_now:
        yield {"path": subject.facts.emulator.path, "uuid": subject.facts.uuid}


def label_refused(subject: Subject) -> Iterator[Hit]:
    if label := subject.process.refused_label:
        yield {"label": label}


def emulator_of_another_target(subject: Subject) -> Iterator[Hit]:
    emulator, qemu = subject.facts.emulator, subject.qemu
    if not emulator.problem and emulator.target != qemu.target:
        yield {"path": emulator.path, "target": emulator.target, "wanted": qemu.target}


def emulator_without(mode: str) -> Test:
    """The installed QEMU doesn't know this migration mode (MigMode in its schema)."""

    def test(subject: Subject) -> Iterator[Hit]:
        emulator = subject.facts.emulator
        if not emulator.problem and mode not in emulator.modes:
            yield {"path": emulator.path, "version": emulator.version, "mode": mode, "since": _since(mode)}

    return test


def runs_in_qemu_without(mode: str) -> Test:
    def test(subject: Subject) -> Iterator[Hit]:
        if subject.qemu.version_tuple < SINCE[mode]:
            yield {"version": subject.qemu.version, "mode": mode, "since": _since(mode)}

    return test


def runs_in_untried_qemu(subject: Subject) -> Iterator[Hit]:
    if _untried(subject.qemu.version_tuple) and subject.qemu.version_tuple >= SINCE["cpr-reboot"]:
        yield {"version": subject.qemu.version}


def emulator_untried(subject: Subject) -> Iterator[Hit]:
    emulator = subject.facts.emulator
    if not emulator.problem and "cpr-reboot" in emulator.modes and _untried(emulator.number):
        yield {"path": emulator.path, "version": emulator.version}


def _untried(number: tuple[int, int, int]) -> bool:
    return not TRIED[0] <= number[:2] <= TRIED[1]


def _since(mode: str) -> str:
    return ".".join(str(part) for part in SINCE[mode][:2])


def machine_unknown(subject: Subject) -> Iterator[Hit]:
    emulator, machine = subject.facts.emulator, subject.live.machine
    if not emulator.problem and machine and machine not in emulator.machines:
        yield {"machine": machine, "path": emulator.path, "version": emulator.version}


def managed(subject: Subject) -> Iterator[Hit]:
    if manager := subject.live.manager:
        yield {"manager": manager}


def machine_unversioned(subject: Subject) -> Iterator[Hit]:
    """libvirt puts the version in for an alias when a domain is defined (virQEMUCapsGetCanonicalMachine)."""
    machine = subject.live.machine
    named = subject.facts.offline and (machine in ALIASES or (machine == "virt" and not subject.live.of_riscv()))
    if machine in UNVERSIONED and not named:
        yield {"machine": machine}


def modules_gone(subject: Subject) -> Iterator[Hit]:
    if not subject.process.modules:
        yield {"version": subject.qemu.version}


def libraries_replaced(subject: Subject) -> Iterator[Hit]:
    paths = subject.process.libraries
    if paths:
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        yield {"paths": ", ".join(paths[:3]) + more}


def exec_forbidden(subject: Subject) -> Iterator[Hit]:
    """libvirt's default sandbox; QEMU can't exec itself under it."""
    if subject.line and any(o.properties().get("spawn") == "deny" for o in subject.line.named("sandbox")):
        yield {}
