"""Every reason why a domain can't be moved, or not without loss: one row each.  docs/findings.md shows the table.

Two processes side by side (transfer, live) can't share an exclusive resource; ``exec`` loses what isn't handed over by
name; ``reboot`` lets libvirt create everything again.
"""

from __future__ import annotations

from collections.abc import Iterator

from virtcpr.domain.facts import DomainFacts
from virtcpr.model import Finding, Mode, Rehearsal, Severity, Trial
from virtcpr.plan.findings import devices, drift, host_devices, memory, migration, state
from virtcpr.plan.findings.devices import has
from virtcpr.plan.findings.rule import REBOOTS, RESTART, Hit, Needs, Rule, Subject

TRANSFER, LIVE, REBOOT, EXEC = Mode.TRANSFER, Mode.LIVE, Mode.REBOOT, Mode.EXEC
ALL = tuple(Mode)
CPR = (TRANSFER, REBOOT, EXEC)
SHARED = (TRANSFER, EXEC)  # RAM stays in place, handed over by its descriptor
RUNS_ON = (TRANSFER, LIVE, EXEC)  # the devices' host side moves from process to process
INFO, WARNING = Severity.INFO, Severity.WARNING
DOCUMENT, STOPPED, LIBVIRT, EMULATOR, RUNNING = Needs

PREPARE = "{how}"  # 'virtcpr prepare', or only the cold boot
DETACH = f"{REBOOTS}, or detach it"
UNDO = "undo the change, or restart the guest ('virsh shutdown {name}', 'virsh start {name}')"
TRY_FIRST = "try it with an unimportant guest first; if its state can't be loaded, it waits on disk"
CAPABILITY_OFF = (
    'virsh qemu-monitor-command {name} \'{{"execute": "migrate-set-capabilities", "arguments": '
    '{{"capabilities": [{{"capability": "{capability}", "state": false}}]}}}}\''
)
NO_S3 = "pm/suspend-to-mem/@enabled='no'"
NOT_YET_RUN = "not-yet-run"
NOT_RUN = "mode transfer was never run with: {what}"
NOT_RUN_LIVE = "mode live was never run with: {what}"
TRY_LIVE = f"{REBOOTS}; or 'virtcpr upgrade --mode live --try {{name}}' tries it: only if the domain can be lost"
TRY = f"{REBOOTS}; or 'virtcpr upgrade --try {{name}}' tries it on this domain: only if it can be lost"
CPR_DOC = "QEMU docs/devel/migration/CPR.rst"
BLOCKERS = "QEMU migrate_add_blocker*()"
OURS = "a limit of this version of virtcpr"


def _told_by_the_plan(subject: Subject) -> Iterator[Hit]:
    """Found by planning or a rehearsal, which need a domain without blockers."""
    return iter(())


# fmt: off
RESOURCE = Rule(
    "resource", (TRANSFER, LIVE), RUNNING, _told_by_the_plan,
    "QEMU's open file for {what} can't be identified, so it can't be handed over",
    "restart the guest instead, and report this as a bug of virtcpr", "virtcpr/plan/transfer/resources.py",
)

PARKED = Rule(
    "parked", (TRANSFER,), RUNNING, _told_by_the_plan,
    "mode parked was never run with: {what}",
    "move it without --mode parked, or restart the guest", "virtcpr/plan/transfer/parked.py",
)

PARKED_UNSURE = Rule(
    "parked-unsure", (TRANSFER,), RUNNING, _told_by_the_plan,
    "its twin couldn't be tried ({words}): nobody knows whether its build can be started again if new QEMU refuses it",
    "move it without --mode parked, or restart the guest", "actions/rehearsal/trial.py",
)

DESCRIPTORS = Rule(
    "descriptors", (TRANSFER, LIVE), RUNNING, _told_by_the_plan,
    "virtcpr may have {limit} files open, and needs more to move this domain together with the others of the batch",
    "move it in a batch of its own afterwards ('virtcpr upgrade {name}'), or raise the hard limit of open files "
    "('ulimit -Hn')", "plan/batch/descriptors.py",
)

LONG_PAUSE = Rule(
    "long-pause", (TRANSFER, LIVE, REBOOT), RUNNING, _told_by_the_plan,
    "a pause of {forecast} ms is forecast, by its last moves; --max-pause allows {limit} ms",
    "allow more, or move it at a quieter time; 'virtcpr history {name}' shows its last pauses",
    "plan/batch/forecast.py",
)

LONG_BLACKOUT = Rule(
    "long-blackout", (TRANSFER, LIVE), RUNNING, _told_by_the_plan,
    "libvirt's daemon would be away for {forecast} s for one guest, by the last times; --max-blackout allows {limit} s",
    "allow more; or find out why the daemon takes so long, and move one domain without --max-blackout: the forecast is "
    "the median of the last ten times", "plan/batch/forecast.py",
)

VETOED = Rule(
    "vetoed", (TRANSFER, LIVE, REBOOT), RUNNING, _told_by_the_plan,
    "a program of /etc/virtcpr/hooks.d objected ({event}): {words}",
    "see what the program says of the domain, then try again; nothing was touched", "actions/rollout/waves.py",
)

GUEST_VETOED = Rule(
    "guest-vetoed", (TRANSFER, LIVE, REBOOT), RUNNING, _told_by_the_plan,
    "the guest objected: {words}",
    "try again later, or take its say away: "
    "virsh metadata {name} urn:virtcpr:notice:1 --remove --live --config", "actions/rollout/guest.py",
)

NOT_KEPT = Rule(
    "not-kept", (TRANSFER, LIVE, REBOOT), RUNNING, _told_by_the_plan,
    "the QEMU that it came from ({version}) isn't kept on this host",
    "install its packages, then 'virtcpr upgrade {name}'; keep.builds in virtcpr.toml keeps it next time",
    "actions/undo.py",
)

SIGN = Rule(
    "sign", (TRANSFER, LIVE, REBOOT), RUNNING, _told_by_the_plan,
    "after the move it showed a sign of trouble, and runs in its former QEMU again: {sign}",
    "see what the guest and its log say, before you move others", "actions/rollout/probation.py",
)

SIGN_STAYS = Rule(
    "sign-stays", (TRANSFER, LIVE, REBOOT), RUNNING, _told_by_the_plan,
    "after the move it showed a sign of trouble ({sign}), and couldn't go back: {words}",
    "look at the guest: it is where it was moved to", "actions/rollout/probation.py",
)

ONE_WAY = Rule(
    "one-way", (TRANSFER, LIVE, REBOOT), RUNNING, _told_by_the_plan,
    "there is no way back: a rehearsal showed that QEMU {version}, in which it runs, can't take it over again: {words}",
    "move a spare guest first", "actions/rehearsal/rehearse.py", WARNING,
)

NO_GO = Rule(
    "rehearsal", (TRANSFER, LIVE, REBOOT), RUNNING, _told_by_the_plan,
    "a rehearsal showed that {version} can't take over this machine: {words}",
    "wait for a QEMU that can, or restart the guest ('virsh shutdown {name}', 'virsh start {name}'); "
    "the same upgrade or undo with --no-rehearse tries anyway: if that fails, modes transfer and live roll back, and "
    "mode reboot leaves the guest down, its state on disk, until a QEMU accepts it", "actions/rehearsal/rehearse.py",
)

UNSURE = Rule(
    "rehearsal-unsure", (TRANSFER, LIVE, REBOOT), RUNNING, _told_by_the_plan,
    "whether {version} can take over this machine could not be rehearsed: {words}",
    "in modes transfer and live the guest keeps running in old QEMU if new QEMU can't; in mode reboot it would be "
    "down, its state on disk, until a QEMU accepts it: move an unimportant guest first",
    "actions/rehearsal/rehearse.py", WARNING,
)

REFUSED = Rule(
    "refused-before", (TRANSFER, LIVE), RUNNING, _told_by_the_plan,
    "{version} refused this guest at {time}: {words}",
    "shut it down and start it ('virsh shutdown {name}', 'virsh start {name}'), or wait for a QEMU build that accepts "
    "it; the same upgrade or undo with --no-rehearse tries again", "actions/rehearsal/rehearse.py",
)

UNREADABLE = Rule(
    "unreadable", ALL, LIBVIRT, state.not_readable, "the domain can't be examined: {problem}",
    "examine it with virsh, solve the problem, then try again", "actions/inspect/probe.py",
)



def rehearsed(facts: DomainFacts, rehearsal: Rehearsal) -> Finding | None:
    """The finding of a rehearsal with this domain's twin; None if all went well."""
    rule = {Trial.NO_GO: NO_GO, Trial.UNSURE: UNSURE}.get(rehearsal.trial)
    rule = REFUSED if rehearsal.refused_at else rule
    hit = {"version": f"QEMU {facts.emulator.version}", "words": rehearsal.words, "time": rehearsal.refused_at}
    return rule.finding(facts.name, hit) if rule else None


AGENT = Rule(
    "agent", (REBOOT,), RUNNING, _told_by_the_plan,
    "the guest must suspend itself, but its guest agent doesn't answer",
    "install qemu-guest-agent in the guest, or leave out --suspend-guest", "QEMU qga/qapi-schema.json",
)

ROOM = Rule(
    "room", (REBOOT,), RUNNING, _told_by_the_plan,
    "the guest's state may need {needs}, but {directory} has only {free} left",
    "free space there, or keep RAM in place: 'virtcpr prepare --mode reboot {name}'", "virtcpr/plan/reboot/save.py",
)

RAM_NAMES = Rule(
    "ram-names", (REBOOT,), RUNNING, _told_by_the_plan,
    "its machine type {machine} names RAM of NUMA cells and DIMMs otherwise if it is in memfds: its state couldn't be "
    "loaded",
    "'virtcpr prepare --live {name}', which copies its RAM", "QEMU hw/core/machine.c hw_compat_4_0",
)

UNTOLD = Rule(
    "disk-untold", (REBOOT,), RUNNING, _told_by_the_plan,
    "nobody will be able to tell whether its disk {disk} was written to while its state waits",
    "see that nothing else uses the disk meanwhile; 'virtcpr restore --disks-unchanged {name}' says so, and without it "
    "the guest isn't restored", "virtcpr/actions/reboot/disks.py", WARNING,
)

STATE = (
    Rule("managed", (REBOOT,), DOCUMENT, state.managed,
         "{manager} manages the domain: it may take the guest for lost while it is down, and start it elsewhere",
         "have {manager} leave the domain alone meanwhile, or let it move the guest to another host", OURS, WARNING),
    Rule("not-running", ALL, LIBVIRT, state.not_running, "the domain is {state}",
         "nothing to move: the next 'virsh start {name}' runs the installed QEMU", "libvirt virDomainState"),
    Rule("waits-for-restore", ALL, LIBVIRT, state.waits_for_restore, "the domain is saved: its state waits on disk",
         "'virtcpr restore {name}' brings it back; 'virsh start' is refused", OURS),
    UNREADABLE,
    Rule("session", (LIVE,), LIBVIRT, state.of_a_user,
         "the domain is in a user's own libvirt (qemu:///session): mode live was never run with one",
         RESTART, OURS),
    Rule("session", (REBOOT,), LIBVIRT, state.of_a_user,
         "the domain is in a user's own libvirt (qemu:///session), which mode reboot can't use",
         f"use mode transfer; if something else blocks that, {RESTART}", OURS),
    Rule("paused", ALL, RUNNING, state.paused, "the domain is paused by libvirt or QEMU ({reason})",
         "remove the cause, then 'virsh resume {name}'", "libvirt virDomainPausedReason"),
    Rule("state", ALL, RUNNING, state.in_another_state, "the domain is {state}", "wait until it runs",
         "libvirt virDomainState"),
    Rule("suspended", RUNS_ON, RUNNING, state.suspended, "the guest is suspended to RAM",
         "wake it up: 'virsh dompmwakeup {name}'", "QEMU qapi/run-state.json RunState"),
    Rule("qemu-status", ALL, RUNNING, state.in_another_qemu_state,
         "QEMU says that the guest is neither running nor paused, but in {status}",
         "if it was started paused, 'virsh resume {name}'; otherwise look at its log",
         "QEMU qapi/run-state.json RunState"),
    Rule("machine-unversioned", ALL, DOCUMENT, state.machine_unversioned,
         "the machine type {machine} has no version: another QEMU may build a different machine",
         "give the domain a versioned machine type, if there is one ('qemu-system-… -machine help' lists them)",
         "QEMU docs/devel/migration/compatibility.rst", WARNING),
)

EMULATORS = (
    Rule("emulator", ALL, EMULATOR, state.emulator_unusable, "the emulator {path} {problem}",
         "install QEMU, or name a binary with --emulator PATH", "virtcpr/host/qemu/emulator.py"),
    Rule("emulator-forbidden", ALL, EMULATOR, state.emulator_forbidden,
         "libvirt's daemon may not run the emulator {path} (AppArmor profile {profile}): no domain could start in it",
         "add the line '{path} PUx,' to /etc/apparmor.d/local/usr.sbin.{profile}, then load it: "
         "'apparmor_parser -r /etc/apparmor.d/usr.sbin.{profile}'", "libvirt virQEMUCapsNewForBinaryInternal()"),
    Rule("emulator-confined", ALL, RUNNING, state.emulator_confined,
         "the guest's AppArmor profile doesn't let it run the emulator {path}: libvirt could never start it there",
         "add the line '{path} rmix,' to /etc/apparmor.d/local/abstractions/libvirt-qemu",
         "libvirt src/security/security_apparmor.c AppArmorSetSecurityProcessLabel()"),
    Rule("emulator-confined", RUNS_ON, RUNNING, state.profile_not_loaded,
         "the guest's AppArmor profile, as it was loaded when it started, doesn't let it run the emulator {path}",
         "load it anew: 'apparmor_parser -r /etc/apparmor.d/libvirt/libvirt-{uuid}'",
         "Linux security/apparmor/file.c aa_file_perm()"),
    Rule("selinux", RUNS_ON, RUNNING, state.label_refused,
         "SELinux is enforced, and its policy doesn't let virtcpr start a QEMU with the guest's label {label}",
         "load virtcpr's policy module (docs/security.md, 'SELinux')",
         "Linux security/selinux/hooks.c selinux_bprm_creds_for_exec()"),
    Rule("emulator-arch", ALL, RUNNING, state.emulator_of_another_target,
         "the emulator {path} runs {target} guests, this guest is {wanted}",
         "name an emulator of the guest's architecture", "QEMU query-target"),
    Rule("emulator-cpr", (TRANSFER, LIVE), EMULATOR, state.emulator_without("cpr-transfer"),
         "the emulator {path} ({version}) can't do {mode}", "install QEMU {since} or newer", CPR_DOC),
    Rule("emulator-reboot", (REBOOT,), EMULATOR, state.emulator_without("cpr-reboot"),
         "the emulator {path} ({version}) can't do {mode}", "install QEMU {since} or newer", CPR_DOC),
    Rule("emulator-exec", (EXEC,), EMULATOR, state.emulator_without("cpr-exec"),
         "the emulator {path} ({version}) can't do {mode}", "install QEMU {since} or newer", CPR_DOC),
    Rule("machine-gone", ALL, EMULATOR, state.machine_unknown,
         "the emulator {path} ({version}) has no machine type {machine}",
         "keep a QEMU that has it, or change the machine type and let the guest boot", "QEMU query-machines"),
    Rule("qemu-old", (TRANSFER, LIVE), RUNNING, state.runs_in_qemu_without("cpr-transfer"),
         "the guest runs in QEMU {version}, {mode} needs {since}",
         "restart the guest once on the installed QEMU ('virsh shutdown', 'virsh start')", CPR_DOC),
    Rule("qemu-old-reboot", (REBOOT,), RUNNING, state.runs_in_qemu_without("cpr-reboot"),
         "the guest runs in QEMU {version}, {mode} needs {since}",
         "restart the guest once on the installed QEMU ('virsh shutdown', 'virsh start')", CPR_DOC),
    Rule("qemu-untried", (REBOOT,), RUNNING, state.runs_in_untried_qemu,
         "the guest runs in QEMU {version}: mode reboot was run with QEMU 10.0 to 11.1 only", TRY_FIRST, OURS, WARNING),
    Rule("qemu-untried", (REBOOT,), EMULATOR, state.emulator_untried,
         "the emulator {path} is QEMU {version}: mode reboot was run with QEMU 10.0 to 11.1 only", TRY_FIRST, OURS,
         WARNING),
    Rule("qemu-old-exec", (EXEC,), RUNNING, state.runs_in_qemu_without("cpr-exec"),
         "the guest runs in QEMU {version}, {mode} needs {since}",
         "restart the guest once on the installed QEMU ('virsh shutdown', 'virsh start')", CPR_DOC),
    Rule("sandbox", (EXEC,), RUNNING, state.exec_forbidden,
         "libvirt's sandbox forbids QEMU to exec itself (spawn=deny)",
         "use mode transfer, which has a way back, too",
         "QEMU system/qemu-seccomp.c"),
    Rule("modules-gone", ALL, RUNNING, state.modules_gone,
         "QEMU {version} and its modules were replaced on disk: it can't load further modules",
         "move the guest before you attach devices to it", "QEMU util/module.c module_load()", INFO),
    Rule("libraries", ALL, RUNNING, state.libraries_replaced,
         "libraries that QEMU uses were replaced on disk, and the guest runs with the old ones: {paths}",
         "move the guest: new QEMU loads the installed ones", "Linux proc_pid_maps(5)", INFO),
)

MEMORY = (
    Rule("ram-private", SHARED, RUNNING, memory.private, "RAM isn't shared ({ram})", PREPARE,
         "QEMU ram_is_cpr_compatible()"),
    Rule("ram-private", SHARED, STOPPED, memory.private_in_document, "RAM won't be shared ({ram})",
         "'virtcpr prepare {name}' before it is started", "libvirt qemuBuildMemoryBackendProps()"),
    Rule("ram-directory", SHARED, RUNNING, memory.in_directory,
         "RAM {id} is a file in a directory ({path}): QEMU would hand over nothing, and the guest would resume with "
         "blank RAM", PREPARE, "QEMU backends/hostmem-file.c, qemu_ram_alloc_from_file()"),
    Rule("ram-missing", (*SHARED, REBOOT), RUNNING, memory.file_gone,
         "RAM {id} is in the file {path}, which is gone: new QEMU couldn't open it", RESTART,
         "QEMU system/physmem.c qemu_ram_alloc_from_file()"),
    Rule("aux-ram-share", SHARED, RUNNING, memory.aux_ram_private, "the machine runs without aux-ram-share=on",
         PREPARE, CPR_DOC),
    Rule("aux-ram-share", SHARED, STOPPED, memory.aux_ram_private_in_document,
         "the machine will run without aux-ram-share=on", "'virtcpr prepare {name}' before it is started", CPR_DOC),
    Rule("ram-epc", SHARED, RUNNING, memory.epc, "RAM {id} is SGX enclave memory, which can't be handed over",
         RESTART, "QEMU backends/hostmem-epc.c"),
    Rule("confidential", ALL, RUNNING, memory.confidential, "the guest's RAM is encrypted ({kind})", RESTART,
         "QEMU ram_is_cpr_compatible(), guest_memfd"),
    Rule("confidential", ALL, DOCUMENT, has("launchSecurity"), "the domain is an encrypted guest (SEV, TDX)", RESTART,
         BLOCKERS),
    Rule("discard-data", (TRANSFER, REBOOT), RUNNING, memory.discarded,
         "RAM {id} has discard-data=on: a QEMU that exits normally wipes it for the other QEMU, too",
         "virtcpr kills that process instead; remove <discard/> from <memoryBacking> in case something else ends it",
         "QEMU backends/hostmem-file.c file_backend_unparent()", WARNING),
    Rule("host-memory", (LIVE,), RUNNING, memory.no_room_for_two,
         "mode live needs the guest's RAM twice: {wanted}, but only {free} of {kind} are available",
         "free memory; or, if it is prepared, use mode transfer; or 'virtcpr prepare --live --mode reboot {name}', by "
         "way of a file", "Linux /proc/meminfo"),
    Rule("memory-limit", (LIVE,), RUNNING, memory.no_room_for_two_below_the_limit,
         "mode live needs the guest's RAM twice: about {wanted}, and the limits of its cgroups leave {room}",
         "raise the limit by {more} until the domain is moved: 'virsh memtune {name} --live --hard-limit …'",
         "Linux admin-guide/cgroup-v2.rst memory.max"),
    Rule("memory-limit", (TRANSFER,), RUNNING, memory.no_room_below_the_limit,
         "new QEMU takes about {wanted} of memory beside the guest's RAM, and the limits of its cgroups leave {room}",
         "raise the limit by {more} until the domain is moved: 'virsh memtune {name} --live --hard-limit …'",
         "Linux admin-guide/cgroup-v2.rst memory.max"),
    Rule("cold-boot-pending", SHARED, RUNNING, memory.next_boot_is_ready,
         "the persistent XML is prepared, the running guest was started before that",
         "'virtcpr prepare --live {name}', or shut it down and start it",
         "libvirt virDomainGetXMLDesc(INACTIVE)", INFO),
    Rule("ram-file", (LIVE,), RUNNING, memory.in_file,
         "RAM {id} is in the file {path}, which isn't libvirt's own: new QEMU's RAM would be elsewhere",
         f"use mode transfer if RAM is shared, or {REBOOTS}", "libvirt qemuGetMemoryBackingPath()"),
    Rule("ram-pages", (LIVE,), RUNNING, memory.of_several_sizes,
         "the domain has huge pages of several sizes, or only for a part of its RAM: nothing was run with that",
         f"{REBOOTS}", OURS),
    Rule("hugepages-apparmor", (LIVE,), RUNNING, memory.confined_new_memfd,
         "its RAM would be in memfds of huge pages, which its AppArmor profile doesn't let QEMU make",
         "put into /etc/apparmor.d/local/abstractions/libvirt-qemu the line '{line}', and load it: "
         "'apparmor_parser -r /etc/apparmor.d/libvirt/libvirt-{uuid}'",
         "QEMU backends/hostmem-memfd.c; Linux security/apparmor/lsm.c apparmor_path_truncate()"),
    Rule("ram-unnamed", (LIVE,), RUNNING, memory.without_backend,
         "RAM has no memory backend, so that new QEMU can't be given a shared one", f"{REBOOTS}", OURS),
    Rule("next-boot-unprepared", SHARED, RUNNING, memory.next_boot_is_not_ready,
         "the running guest is prepared, the persistent XML isn't: after the next start it can't be moved",
         "'virtcpr prepare {name}'", "libvirt virDomainGetXMLDesc(INACTIVE)", WARNING),
)

MIGRATION = (
    Rule("job", ALL, RUNNING, migration.busy, "libvirt or QEMU is busy with the domain: {jobs}",
         "wait for it ('virsh domjobinfo {name}', 'virsh blockjob'), then try again",
         "libvirt status file; QEMU query-jobs"),
    Rule("lock-manager", RUNS_ON, RUNNING, migration.leases, "libvirt holds leases of the disks ({manager})",
         "a lease belongs to a process and can't be handed over: restart the guest instead", "libvirt src/locking"),
    Rule("qemu-blocked", ALL, RUNNING, migration.blocked_by_qemu, "QEMU: {reason}",
         "detach that device, or restart the guest instead", "QEMU query-migrate, blocked-reasons"),
    Rule("qemu-blocked-live", (LIVE,), RUNNING, migration.blocked_by_qemu_in_mode_normal, "QEMU: {reason}",
         "if it is prepared, use mode transfer, which QEMU allows; else 'virtcpr prepare {name}', then shut it down "
         "and start it", "QEMU migrate_add_blocker_normal()"),
    Rule("capability", CPR, RUNNING, migration.capabilities("postcopy-ram", "background-snapshot", "x-colo"),
         "the migration capability {capability} is on, and QEMU refuses CPR with it",
         CAPABILITY_OFF,
         "QEMU migration/options.c migrate_caps_check()"),
    Rule("capability-stream", (TRANSFER, LIVE, REBOOT), RUNNING,
         migration.capabilities("mapped-ram", "multifd", "zero-copy-send", "x-ignore-shared",
                                "pause-before-switchover", "switchover-ack"),
         "the migration capability {capability} is on, which changes what new QEMU must expect",
         CAPABILITY_OFF,
         "QEMU qapi/migration.json MigrationCapability"),
    Rule("write-threshold", (EXEC,), RUNNING, migration.write_thresholds,
         "a write threshold is set on block node {node}, which new QEMU wouldn't know",
         "remove it ('virsh domblkthreshold {name} DISK 0'), and set it again after the move",
         "libvirt qemuMonitorSetBlockThreshold()"),
    Rule("mode-left", ALL, RUNNING, migration.mode_left,
         "QEMU's migration mode is {mode}, left by an earlier hand-over: a snapshot taken now would leave out RAM",
         "virsh qemu-monitor-command {name} "
         "'{{\"execute\": \"migrate-set-parameters\", \"arguments\": {{\"mode\": \"normal\"}}}}'",
         CPR_DOC, WARNING),
    Rule("format", (LIVE,), STOPPED, has("devices/disk/driver[@type='vmdk' or @type='vdi' or @type='vpc' or "
         "@type='vhdx' or @type='qcow' or @type='parallels']"),
         "the domain has a disk image of a format that can't be migrated", "convert it to qcow2 or raw",
         "QEMU migrate_add_blocker_normal()"),
)

DEVICES = (
    Rule("vsock", (LIVE, EXEC), DOCUMENT, has("devices/vsock"),
         "the domain has a vsock device, with which only modes transfer and reboot were run",
         "use mode transfer ('virtcpr upgrade {name}'), or detach it",
         "QEMU hw/virtio/vhost-vsock.c vhost_vsock_device_realize()"),
    Rule("vsock-setting", (TRANSFER,), DOCUMENT,
         has("devices/vsock[driver or @model and not(@model='virtio')]"),
         "the domain has a vsock device of a model, or with settings of a driver, with which nothing was run",
         f"{REBOOTS}, or detach it", "libvirt src/qemu/qemu_command.c qemuBuildVsockDevProps()"),
    Rule("vsock-connections", (TRANSFER,), DOCUMENT, has("devices/vsock"),
         "the move ends its vsock connections",
         "whoever uses them must connect again, on the host and in the guest",
         "Linux drivers/vhost/vsock.c vhost_vsock_set_cid()", WARNING),
    Rule("hostdev", RUNS_ON, DOCUMENT, has(f"self::domain[{NO_S3}][{host_devices.OTHERS}]"),
         "the domain has a host device (passthrough)", "detach it", "QEMU hw/vfio/migration.c"),
    Rule("hostdev", RUNS_ON, DOCUMENT, has(f"self::domain[not({NO_S3})][{host_devices.OTHERS}]"),
         "the domain has a host device (passthrough)",
         f"detach it, or {REBOOTS}, for which a guest with a mediated device must be suspended to RAM",
         "QEMU hw/vfio/migration.c, hw/usb/host-libusb.c"),
    Rule("hostdev", (LIVE, EXEC), DOCUMENT, has(f"self::domain[{host_devices.PCI}]"),
         "the domain has a host device (VFIO)",
         "use mode transfer ('virtcpr upgrade {name}'), which hands it over from QEMU 10.1 on",
         "QEMU hw/vfio/migration.c"),
    Rule("hostdev-build", (TRANSFER,), EMULATOR, host_devices.build_without,
         "{build} can't hand over host devices (VFIO)",
         "use QEMU 10.1 or newer: install it, then shut the guest down and start it; or detach the device",
         "QEMU hw/vfio/cpr-legacy.c"),
    Rule("hostdev-setting", (TRANSFER,), DOCUMENT, host_devices.untried,
         "the domain has a host device (VFIO) with {what}, with which nothing was run",
         "take that out, or detach the device", "virtcpr/plan/findings/host_devices.py"),
    Rule("hostdev-moves", (TRANSFER,), DOCUMENT, has(f"self::domain[{host_devices.PCI}]"),
         "its host devices (VFIO) go along, which was run with emulated devices only: no GPU, no real hardware",
         "move a spare guest with such a device first", "tests/host/test_vfio.py", WARNING),
    Rule("hostdev-awake", (REBOOT,), RUNNING, state.awake,
         "the domain has a host device (VFIO), and its guest isn't suspended",
         "suspend the guest ('virsh dompmsuspend {name} mem'), or detach the device", "QEMU hw/vfio/cpr.c"),
    Rule("hostdev-s3", (REBOOT,), DOCUMENT,
         has(f"self::domain[{NO_S3}][devices/hostdev[@type='pci' or @type='mdev']"
             " or devices/interface/@type='hostdev']"),
         "the domain has a host device (VFIO), for which its guest must suspend to RAM, and <pm> switches that off",
         "detach the device; or remove <suspend-to-mem enabled='no'/> ('virsh edit {name}'), then shut it down and "
         "start it", "QEMU hw/vfio/cpr.c"),
    Rule("virtiofs", RUNS_ON, DOCUMENT,
         has("devices/filesystem[driver/@type='virtiofs'][not(source/@socket)][readonly or idmap or binary[lock or "
             "sandbox or thread_pool or openfiles or cache[not(@mode='always')]]]"),
         "the domain has a shared directory (virtiofs) with settings that nothing was run with: extended attributes "
         "and the cache mode 'always' alone were", f"{REBOOTS}, or unmount and detach it",
         "libvirt src/qemu/qemu_virtiofs.c qemuVirtioFSBuildCommandLine()"),
    Rule("virtiofs-process", (TRANSFER, LIVE), RUNNING,
         devices.helper("virtiofsd", "devices/filesystem/driver[@type='virtiofs']"),
         "the process behind a shared directory (virtiofsd) isn't one of those that were run: {problem}",
         f"{REBOOTS}, or unmount and detach it", "libvirt src/qemu/qemu_virtiofs.c qemuVirtioFSBuildCommandLine()"),
    Rule("virtiofs-files", (TRANSFER, LIVE), RUNNING, devices.known_files,
         "the guest knows {files} files of its shared directories, which makes its pause longer by about {ms} ms",
         "have the guest forget them before the move: 'sync; echo 2 > /proc/sys/vm/drop_caches' in the guest",
         "virtiofsd src/passthrough/device_state/preserialization.rs", WARNING),
    Rule("virtiofs-external", ALL, DOCUMENT, has("devices/filesystem[driver/@type='virtiofs'][source/@socket]"),
         "the domain has a shared file system (virtiofs) whose server libvirt doesn't start: nothing was run with it",
         "unmount and detach it", "libvirt src/qemu/qemu_extdevice.c qemuExtDevicesStart()"),
    Rule("filesystem", ALL, STOPPED, has("devices/filesystem[not(driver/@type='virtiofs')]"),
         "the domain has a shared file system (9p), which QEMU moves only while no guest has it mounted",
         "unmount it in the guest before the move", "QEMU hw/9pfs/9p.c v9fs_attach()", WARNING),
    Rule("tpm", RUNS_ON, DOCUMENT, has("devices/tpm[backend/@type='emulator'][backend/encryption or backend/source]"),
         "the domain has a TPM whose state is encrypted, or in a place of its own: nothing was run with it",
         f"{REBOOTS}, which takes the TPM's state along", "libvirt src/qemu/qemu_tpm.c qemuTPMEmulatorBuildCommand()"),
    Rule("helpers", (EXEC,), DOCUMENT,
         has("self::domain[devices/tpm/backend/@type='emulator' or devices/filesystem[driver/@type='virtiofs']"
             " or devices/interface/backend[@type='passt']]"),
         "the domain has a TPM, a shared directory (virtiofs) or a network by passt, and was never moved so with one",
         "use mode transfer ('virtcpr upgrade {name}')", "libvirt src/qemu/qemu_extdevice.c qemuExtDevicesStart()"),
    Rule("tpm-process", (TRANSFER, LIVE), RUNNING, devices.helper("swtpm", "devices/tpm/backend[@type='emulator']"),
         "the process that emulates the domain's TPM (swtpm) isn't one of those that were run: {problem}",
         f"{REBOOTS}, which takes the TPM's state along", "libvirt src/qemu/qemu_tpm.c qemuTPMEmulatorBuildCommand()"),
    Rule("tpm-external", ALL, DOCUMENT, has("devices/tpm[backend/@type='external']"),
         "the domain has a TPM whose emulator libvirt doesn't start: nothing was run with it",
         f"{RESTART}, and its TPM's emulator if that has ended",
         "libvirt src/qemu/qemu_extdevice.c qemuExtDevicesStart()"),
    Rule("tpm-passthrough", ALL, DOCUMENT, has("devices/tpm[backend/@type='passthrough']"),
         "the domain has the host's TPM", RESTART, "QEMU backends/tpm/tpm_passthrough.c"),
    Rule("redirdev", RUNS_ON, DOCUMENT, has("devices/redirdev[not(@type='spicevmc')]"),
         "the domain has a redirected USB device",
         f"{REBOOTS}, or detach it", "QEMU hw/usb/redirect.c"),
    Rule("redirdev-spice", (TRANSFER, LIVE), DOCUMENT, has("devices/redirdev[@type='spicevmc']"),
         "the domain can have USB devices of a SPICE client; a move while it has one was never run",
         "nothing, if no client has given it a USB device", "QEMU hw/usb/redirect.c", WARNING),
    Rule("smartcard", RUNS_ON, DOCUMENT, has("devices/smartcard"), "the domain has a smartcard",
         f"{REBOOTS}, or detach it",
         "QEMU hw/usb/ccid-card-passthru.c"),
    Rule("shmem", ALL, DOCUMENT, has("devices/shmem[not(@role='master') or server or model/@type='ivshmem-doorbell']"),
         "the domain has memory that it shares as a peer (ivshmem)", "detach it, or give it role='master' if it can be",
         "QEMU hw/misc/ivshmem*.c"),
    Rule("crypto", ALL, DOCUMENT, has("devices/crypto"), "the domain has a crypto device", "detach it",
         "QEMU hw/virtio/virtio-crypto.c"),
    Rule("sound", ALL, DOCUMENT, has("devices/sound[@model='virtio' or @model='usb']"),
         "the domain has a sound device that QEMU can't migrate", "use another sound model",
         "QEMU hw/audio/virtio-snd.c, hw/usb/dev-audio.c"),
    Rule("input-passthrough", ALL, DOCUMENT, has("devices/input[@type='passthrough']"),
         "the domain has an input device of the host (passthrough)", "detach it", "QEMU hw/input/virtio-input-host.c"),
    Rule("input-evdev", RUNS_ON, DOCUMENT, has("devices/input[@type='evdev']"),
         "the domain has an input device of the host (evdev)", f"{REBOOTS}, or detach it",
         "QEMU ui/input-linux.c"),
    Rule("iommu", ALL, DOCUMENT, has("devices/iommu[@model='amd']"), "the domain has an AMD IOMMU", RESTART,
         "QEMU hw/i386/amd_iommu.c"),
    Rule("spice", RUNS_ON, DOCUMENT, devices.spice,
         "the domain has a SPICE display {why}: mode transfer was never run with that",
         f"{REBOOTS}, or change that ('virsh edit {{name}}'), then shut it down and start it", OURS),
    Rule("display", RUNS_ON, DOCUMENT,
         has("devices/graphics[@type='dbus' or @type='egl-headless' or @type='rdp' or @type='sdl']"),
         "the domain has a display that isn't VNC", f"{REBOOTS}, or use VNC instead", OURS),
    Rule("virgl", ALL, DOCUMENT, has("devices/video/model/acceleration[@accel3d='yes']"),
         "the domain has 3D acceleration (virgl)", RESTART, "QEMU hw/display/virtio-gpu-base.c"),
    Rule("vnc-password", RUNS_ON, RUNNING, devices.password_of("vnc"),
         "the VNC display has a password that libvirt doesn't know: new QEMU wouldn't get it",
         "give libvirt one ('virsh update-device {name} FILE', with <graphics … passwd='…'/>)", "QEMU ui/vnc.c"),
    Rule("spice-password", RUNS_ON, RUNNING, devices.password_of("spice"),
         "the SPICE display has a password that libvirt doesn't know: new QEMU wouldn't get it",
         "give libvirt one ('virsh update-device {name} FILE', with <graphics … passwd='…'/>)",
         "QEMU ui/spice-core.c"),
    Rule("interface", RUNS_ON, DOCUMENT, devices.interface_kind,
         "the network interface {interface} is of type {kind}, which can't be handed over",
         f"{REBOOTS}, or detach it ('virsh detach-interface {{name}} {{type}}')", OURS),
    Rule("interface-user", (TRANSFER, LIVE), RUNNING, devices.user_interface,
         "the move ends the guest's connections through {interface}, {network}",
         "programs in the guest must connect again; a bridge or a tap keeps connections", "QEMU net/slirp.c", WARNING),
    Rule("passt", RUNS_ON, DOCUMENT,
         has("devices/interface[backend/@type='passt'][portForward or ip or mtu or source/@dev or backend/@logFile"
             " or backend/@hostname or backend/@fqdn]"),
         "the domain has a network interface by passt with settings that nothing was run with",
         f"{REBOOTS}, or detach it ('virsh detach-interface {{name}} user')",
         "libvirt src/qemu/qemu_passt.c qemuPasstStart()"),
    Rule("passt-process", (TRANSFER, LIVE), RUNNING,
         devices.helper("passt", "devices/interface[@type='user']/backend[@type='passt']"),
         "the process behind a network interface (passt) isn't one of those that were run: {problem}",
         f"{REBOOTS}, or detach it ('virsh detach-interface {{name}} user')",
         "libvirt src/qemu/qemu_passt.c qemuPasstStart()"),
    Rule("network-boot", (TRANSFER,), DOCUMENT, devices.lost_boot_roms,
         "the domain boots from the network, but 'prepare' removed its interfaces' boot ROMs when it didn't",
         "'virtcpr prepare --undo {name}', then prepare it again", "QEMU hw/pci/pci.c pci_add_option_rom()", WARNING),
    Rule("boot-rom", (LIVE,), RUNNING, devices.staying_boot_roms,
         "its interfaces keep their boot ROMs ({models}) until its next start: if one is detached after the move, QEMU "
         "may take another file for the ROM of the next that is attached",
         "detach no interface until the guest was shut down and started, prepared ('virtcpr prepare {name}')",
         "QEMU system/physmem.c qemu_ram_free(), cpr_name()", WARNING),
    Rule("boot-rom", (TRANSFER,), RUNNING, devices.left_boot_roms,
         "its interfaces have boot ROMs ({models}) until its next start: if one is detached, QEMU may take "
         "another file for the ROM of the next that is attached",
         "detach no interface until the guest was shut down and started",
         "QEMU system/physmem.c qemu_ram_free(), cpr_name()", WARNING),
    Rule("interface-queues", (TRANSFER, LIVE), DOCUMENT, has("devices/interface[@type='direct'][driver/@queues > 1]"),
         "the domain has a macvtap interface with several queues: Linux doesn't say which of them the guest uses",
         f"{REBOOTS}, or give it one queue (<driver queues='1'/>)", "Linux drivers/net/tap.c tap_ioctl()"),
    Rule("disk", RUNS_ON, DOCUMENT, has("devices/disk[@type='nvme' or @type='vhostuser' or @type='vhostvdpa']"),
         "the domain has a disk that is a device of the host (NVMe, vhost-user, vDPA)",
         f"{REBOOTS}, which was never run with such a disk, or restart the guest",
         "QEMU block/nvme.c, hw/block/vhost-user-blk.c"),
    Rule("iotune", (EXEC,), DOCUMENT, has("devices/disk/iotune | devices/disk/throttlefilters"),
         "the domain has I/O throttling, which new QEMU wouldn't know", "remove it with 'virsh blkdeviotune'",
         "libvirt qemuMonitorSetBlockIoThrottle()"),
    Rule("transient-disk", ALL, DOCUMENT, has("devices/disk/transient"), "the domain has a transient disk", RESTART,
         "libvirt qemuProcessSetupDisksTransient()"),
    Rule("reservations", RUNS_ON, DOCUMENT, has("devices/disk/source/reservations"),
         "the domain has a disk with a persistent reservation helper", REBOOTS, "QEMU scsi/pr-manager-helper.c"),
    Rule("chardev-net", RUNS_ON, DOCUMENT, has("devices/*[not(self::interface)]/source[@tls='yes']"
             " | devices/rng/backend/source[@tls='yes']"),
         "the domain has a character device on a TCP port with TLS", DETACH, OURS),
    Rule("chardev-connected", (TRANSFER, LIVE), RUNNING, devices.clients,
         "a client is connected to the socket of {device}, and must connect again after the move",
         "nothing, if the client connects again by itself",
         "QEMU chardev/char-socket.c", WARNING),
    Rule("chardev-client", RUNS_ON, DOCUMENT, has("devices/*[@type='unix' or @type='tcp']/source[@mode='connect']"
             " | devices/rng/backend[@type='unix' or @type='tcp']/source[@mode='connect']"),
         "the domain has a character device connected to a peer", DETACH, OURS),
    Rule("vdagent", ALL, STOPPED, devices.vdagent,
         "the domain has a clipboard channel (vdagent), which QEMU moves from 10.2 on", "detach it",
         "QEMU ui/vdagent.c", WARNING),
    Rule("invtsc", ALL, STOPPED, devices.invtsc,
         "the CPU will have invtsc ({why}), and the frequency of its TSC isn't fixed: QEMU won't move it",
         "take that out, or give <clock> a <timer name='tsc' frequency='…'/>, before it is started",
         "QEMU target/i386/kvm/kvm.c"),
    Rule("hv-passthrough", ALL, DOCUMENT, has("self::domain[@type='kvm']/features/hyperv[@mode='passthrough']"),
         "the Hyper-V features are passed through from the host", "name them one by one (<hyperv mode='custom'>)",
         "QEMU target/i386/kvm/kvm.c"),
)

UNTRIED = (
    Rule(NOT_YET_RUN, (TRANSFER, LIVE), RUNNING, drift.not_yet_run, NOT_RUN, TRY, "virtcpr/plan/tried.py"),
    Rule(NOT_YET_RUN, (LIVE,), RUNNING, drift.not_yet_copied, NOT_RUN_LIVE, TRY_LIVE, "virtcpr/plan/tried.py"),
    Rule(NOT_YET_RUN, (TRANSFER,), STOPPED, drift.not_yet_run_in_document, NOT_RUN, TRY, "virtcpr/plan/tried.py"),
)

DRIFT = (
    Rule("argv", (TRANSFER, LIVE, EXEC), RUNNING, drift.unreadable, "QEMU's command line can't be understood",
         "restart the guest, and report this as a bug", "QEMU qemu-options.hx"),
    Rule("changed", (TRANSFER, LIVE, EXEC), RUNNING, drift.changed, "{change}", UNDO,
         "virtcpr/plan/findings/drift.py"),
    RESOURCE,
    DESCRIPTORS,
    PARKED,
    PARKED_UNSURE,
    LONG_PAUSE,
    LONG_BLACKOUT,
    VETOED,
    GUEST_VETOED,
    NOT_KEPT,
    SIGN,
    SIGN_STAYS,
)

REHEARSAL = (NO_GO, REFUSED, UNSURE, ONE_WAY)
SAVING = (AGENT, ROOM, RAM_NAMES, UNTOLD)
# fmt: on

RULES: tuple[Rule, ...] = (*STATE, *EMULATORS, *MEMORY, *MIGRATION, *DEVICES, *UNTRIED, *DRIFT, *REHEARSAL, *SAVING)
