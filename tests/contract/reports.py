"""What commands end with: reports for a backend to return."""

from __future__ import annotations

from dataclasses import replace

from virtcpr.model import (
    Action,
    AutoDomain,
    AutoReport,
    Blackout,
    Blackouts,
    BuildInUse,
    BuildsReport,
    Certified,
    CertifiedDomain,
    CertifyReport,
    CheckedDomain,
    CheckReport,
    DomainReport,
    DomainRow,
    ExitCode,
    Finding,
    HistoryEntry,
    HistoryReport,
    Hook,
    HookReport,
    HookState,
    HostReport,
    Keeping,
    KeptBuild,
    KeptDomain,
    Mode,
    Outlook,
    Phase,
    PlannedStep,
    PlanReport,
    PreparedDomain,
    PrepareReport,
    Readying,
    Recovered,
    RecoverReport,
    Rehearsal,
    RestoreReport,
    Result,
    SaveReport,
    Settled,
    Severity,
    Side,
    Trial,
    UpgradeReport,
)

OLD = Side("10.0.2 (Debian 1:10.0.2+ds-2+deb13u1)", 4711)
NEW = Side("10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)", 5822)
UUID = "6b1a0f5e-0d0c-4d5a-9a5e-00000000000{}"
BLOCKER = Finding(
    "ram-not-shared",
    Severity.BLOCKER,
    "its RAM isn't shared, so that new QEMU can't take it over",
    "give it <memoryBacking> with source memfd and access shared,\nthen shut it down and start it again",
)
REFUSED = Finding(
    "refused",
    Severity.BLOCKER,
    "QEMU 11.1.3 refused the guest: VQ 0 vring.num 1024 exceeds allocated max",
    "the guest runs on in 10.0.13",
)
WARNING = Finding("vnc-dropped", Severity.WARNING, "its VNC viewers were disconnected", "connect again")

WEB = DomainReport(
    "web",
    UUID.format(1),
    Result.UPGRADED,
    Mode.TRANSFER,
    OLD,
    NEW,
    41.23456,
    (Phase("spawn", 210.0), Phase("hand-over", 38.12345)),
    (WARNING,),
)
MAIL = DomainReport("mail", UUID.format(2), Result.CURRENT, None, NEW, NEW)
DB = DomainReport("db", UUID.format(3), Result.BLOCKED, None, OLD, NEW, findings=(BLOCKER,))
LAB = DomainReport("lab", UUID.format(4), Result.ROLLED_BACK, Mode.TRANSFER, NEW, None, findings=(REFUSED,))

ROWS = (
    DomainRow("web", UUID.format(1), 3, "running", OLD.version, NEW.version, True, Mode.TRANSFER, True),
    DomainRow("mail", UUID.format(2), 4, "running", NEW.version, NEW.version, False, Mode.TRANSFER, False),
    DomainRow("db", UUID.format(3), 17, "paused", OLD.version, NEW.version, True, None, True, (BLOCKER,)),
    DomainRow("spare", UUID.format(5), None, "shut off", None, None, None, None, False),
)


EXEC_ONLY = Finding("sandbox", Severity.BLOCKER, "libvirt's sandbox forbids it", "", (Mode.EXEC,), "QEMU")
CPR_ONLY = replace(BLOCKER, modes=(Mode.TRANSFER, Mode.EXEC))
CHECKED = CheckReport(
    (
        CheckedDomain(
            "web",
            UUID.format(1),
            "running",
            OLD.version,
            NEW.version,
            (Mode.TRANSFER, Mode.LIVE, Mode.REBOOT),
            (EXEC_ONLY,),
        ),
        CheckedDomain("db", UUID.format(3), "paused", OLD.version, NEW.version, (Mode.LIVE,), (CPR_ONLY, EXEC_ONLY)),
    ),
    ExitCode.BLOCKED,
)
STEPS = (
    PlannedStep("spawn", "start new QEMU", "before", "end-new"),
    PlannedStep("incoming", "move the guest", "before", None),
    PlannedStep("commit", "let new QEMU run", "at", None),
    PlannedStep("record", "write it down", "after", None),
)
PLANNED = PlanReport(
    (
        Outlook(
            "web",
            UUID.format(1),
            OLD,
            replace(NEW, pid=None),
            findings=(WARNING,),
            mode=Mode.TRANSFER,
            emulator="/usr/bin/qemu-system-x86_64",
            steps=STEPS,
            carried=("standard output", "queue of vnet0"),
            replayed=("set_link name=net0 up=False",),
            forecast_ms=41.25,
            rehearsal=Rehearsal(Trial.GO),
        ),
        Outlook("mail", UUID.format(2), NEW, NEW, Result.CURRENT),
        Outlook("db", UUID.format(3), OLD, NEW, Result.BLOCKED, (BLOCKER,)),
    )
)
DIFF = """--- web.xml
+++ web.xml, edited
@@ -1,4 +1,7 @@
 <domain type='kvm'>
   <memory unit='KiB'>262144</memory>
+  <memoryBacking>
+    <access mode='shared'/>
+  </memoryBacking>
-  <!-- \x1b[31m -->
   <os/>"""
PREPARED = PrepareReport(
    (
        PreparedDomain(
            "web",
            UUID.format(1),
            Readying.PREPARED,
            ("added memoryBacking/access mode='shared'",),
            diff=DIFF,
            backup="/var/lib/virtcpr/xml/web.xml",
            running=True,
        ),
        PreparedDomain("mail", UUID.format(2), Readying.UNCHANGED),
        PreparedDomain("db", UUID.format(3), Readying.BLOCKED, findings=(BLOCKER,)),
    ),
    ExitCode.SOME,
)

RECOVERED = RecoverReport(
    (
        Recovered("web", UUID.format(1), "migrating", "running", "gone", Settled.BACK, "the guest runs on in old QEMU"),
        Recovered("mail", UUID.format(2), "saving", "gone", "", Settled.WAITING, "its state waits for virtcpr restore"),
        Recovered("db", UUID.format(3), "committing", "silent", "gone", Settled.UNKNOWN, "nothing was done"),
    ),
    ExitCode.UNKNOWN,
)
UNFIT = Finding("no-room", Severity.BLOCKER, "its state needs 4096 MiB; 12 are free", "make room in /var/lib/virtcpr")
SAVED = SaveReport(
    (
        KeptDomain(
            "web",
            UUID.format(1),
            Keeping.SAVED,
            OLD.version,
            1_572_864,
            True,
            "2026-05-04T03:02:01+00:00",
            (Phase("save", 41.23456),),
            (WARNING,),
        ),
        KeptDomain("mail", UUID.format(2), Keeping.SAVED, NEW.version, 4 << 30, False, "2026-05-04T03:02:02+00:00"),
        KeptDomain("db", UUID.format(3), Keeping.BLOCKED, OLD.version, findings=(UNFIT,)),
        KeptDomain("lab", UUID.format(4), Keeping.ROLLED_BACK, OLD.version, findings=(REFUSED,)),
    ),
    ExitCode.SOME,
    ("libvirtd was busy",),
)
CORRUPT = Finding("manifest", Severity.BLOCKER, "its manifest isn't what was written", "--discard gives it up")
RESTORED = RestoreReport(
    (
        KeptDomain(
            "web", UUID.format(1), Keeping.RESTORED, NEW.version, 1_572_864, True, None, (Phase("load", 12.3456),)
        ),
        KeptDomain(
            "lab",
            UUID.format(4),
            Keeping.WAITING,
            OLD.version,
            812,
            False,
            "2026-05-04T03:02:02+00:00",
            findings=(REFUSED,),
        ),
        KeptDomain("", UUID.format(3), Keeping.BLOCKED, findings=(CORRUPT,)),
    ),
    ExitCode.SOME,
    812.3456,
)
DISCARDED = RestoreReport(
    (
        KeptDomain("web", UUID.format(1), Keeping.DISCARDED, OLD.version, 1_572_864, True, "2026-05-04T03:02:01+00:00"),
        KeptDomain("db", UUID.format(3), Keeping.BLOCKED, OLD.version, findings=(BLOCKER,)),
    ),
    ExitCode.SOME,
)
HOOKS = HookReport((Hook("libvirt-daemon", "/etc/libvirt/hooks/daemon.d/virtcpr", HookState.INSTALLED),))


def one(report: DomainReport = WEB, code: ExitCode = ExitCode.DONE) -> UpgradeReport:
    return UpgradeReport((report,), code, 812.3456, blackouts=Blackouts(1, 812.3456))


def outlook_of(report: DomainReport) -> Outlook:
    verdict = report.result if report.result in (Result.CURRENT, Result.BLOCKED) else None
    return Outlook(report.name, report.uuid, report.source, report.target, verdict, report.findings, report.mode)


AUTO = AutoReport(
    (
        AutoDomain(
            "web",
            UUID.format(1),
            Action.UPGRADED,
            "",
            Mode.TRANSFER,
            OLD,
            NEW,
            41.23456,
            (Phase("spawn", 210.0),),
            (WARNING,),
        ),
        AutoDomain("mail", UUID.format(2), Action.CURRENT, source=NEW, target=NEW),
        AutoDomain(
            "db",
            UUID.format(3),
            Action.BLOCKED,
            "mode reboot can't move it either",
            None,
            OLD,
            NEW,
            findings=(BLOCKER,),
        ),
        AutoDomain("lab", UUID.format(4), Action.LEFT, "its metadata says off", None, OLD, NEW),
        AutoDomain("spare", UUID.format(5), Action.TOLD, "auto says notify; it can be moved", None, OLD, NEW),
    ),
    ExitCode.SOME,
    812.3456,
    ("libvirtd was busy",),
)
HISTORY = HistoryReport(
    (
        HistoryEntry(
            "2026-05-04T03:02:01+00:00",
            "web",
            UUID.format(1),
            Result.UPGRADED,
            Mode.TRANSFER,
            OLD.version,
            NEW.version,
            41.23456,
            (Phase("spawn", 210.0), Phase("hand-over", 38.12345)),
        ),
        HistoryEntry(
            "2026-05-05T03:02:01+00:00",
            "lab",
            UUID.format(4),
            Result.ROLLED_BACK,
            Mode.REBOOT,
            NEW.version,
            batch=12,
            undoes=11,
        ),
    )
)
BUILDS = BuildsReport(
    (
        KeptBuild(
            "5e1d3b7a",
            OLD.version,
            "2026-05-04T03:02:01+00:00",
            "/var/lib/virtcpr-builds/5e1d3b7a/qemu-system-x86_64",
            61_865_984,
            runs=True,
        ),
    )
)
FIXES = ("CVE-2026-31337", "CVE-2026-40001")
HOST = HostReport(
    "alpha",
    "2026-05-06T12:00:00+00:00",
    "2026-02-05T12:00:00+00:00",
    ROWS,
    (
        BuildInUse(OLD.version, NEW.version, True, ("web", "db"), "2025-08-14T20:55:40+03:00", FIXES),
        BuildInUse(NEW.version, NEW.version, False, ("mail",), "2026-04-29T20:55:40+03:00", ()),
        BuildInUse("11.1.3 (Debian 1:11.1.3+ds-1~bpo13+1)", NEW.version, True, ("shop",)),
    ),
    BUILDS.builds,
    ("db",),
    (
        *HISTORY.entries,
        HistoryEntry(
            "2026-05-05T03:02:04+00:00", "db", UUID.format(3), Result.FAILED, Mode.LIVE, OLD.version, NEW.version,
            findings=(Finding("host", Severity.BLOCKER, "there is no room for its RAM", "free 2 GiB"),),
        ),
        HistoryEntry(
            "2026-05-05T03:02:05+00:00", "mail", UUID.format(2), Result.UPGRADED, Mode.LIVE, OLD.version, NEW.version,
            1240.0, blackout=Blackout(2, 812.3), batch=13,
        ),
    ),
)  # fmt: skip

GO = Rehearsal(Trial.GO)
CERTIFIED = CertifyReport(
    (
        CertifiedDomain(
            "web", UUID.format(1), Certified.GO, OLD.version, NEW.version, Mode.TRANSFER, 1, GO,
            Rehearsal(Trial.NO_GO, "vmstate_load_state error -2"),
        ),
        CertifiedDomain(
            "mail", UUID.format(2), Certified.NO_GO, OLD.version, NEW.version, Mode.LIVE, 2,
            Rehearsal(Trial.NO_GO, "VQ 0 vring.num 1024 exceeds allocated max"),
        ),
        CertifiedDomain("shop", UUID.format(5), Certified.GO, OLD.version, NEW.version, Mode.TRANSFER, 1, GO,
                        Rehearsal(Trial.NO_GO, "vmstate_load_state error -2")),
        CertifiedDomain("db", UUID.format(3), Certified.BLOCKED, OLD.version, NEW.version, findings=(BLOCKER,)),
        CertifiedDomain("lab", UUID.format(4), Certified.CURRENT, NEW.version, NEW.version),
        CertifiedDomain(
            "tiny", UUID.format(6), Certified.UNSURE, OLD.version, NEW.version, Mode.REBOOT, 3,
            Rehearsal(Trial.UNSURE, "it took more than 30 s"), defined=True,
        ),
    ),
    ExitCode.BLOCKED,
    ("qemu-system-x86_1%3a10.0.13+ds-0+deb13u1_amd64.deb",),
)  # fmt: skip
