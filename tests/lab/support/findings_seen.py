"""Which findings were seen on real domains, and by which test; which can't be produced in the lab, and why."""

from __future__ import annotations

SEEN = {
    "not-running": "test_refusals.py",
    "paused": "test_refusals.py",
    "job": "test_refusals.py",
    "lock-manager": "test_refusals.py",
    "emulator": "test_refusals.py",
    "emulator-arch": "test_refusals.py",
    "changed": "test_refusals.py",
    "descriptors": "test_refusals.py",
    "rehearsal": "test_rehearsal.py",
    "rehearsal-unsure": "test_rehearsal.py",
    "ram-directory": "test_prepare.py",
    "room": "test_reboot.py",
    "vnc-password": "test_displays.py",
    "session": "test_session.py",
    "libraries": "test_builds.py",
    "transient": "test_prepare.py",
    "interface-rom": "test_prepare.py",
    "network-boot": "test_prepare.py",
    "managed-save": "test_prepare.py",
    "machine-unversioned": "test_machines.py",
    **dict.fromkeys(["interface-user", "interface-queues", "chardev-connected"], "test_hotplug.py"),
    **dict.fromkeys(
        ["other-template", "ram-file-taken", "ram-backend-cells", "ram-backend-twice", "ram-nameless"],
        "test_prepare_reboot.py",
    ),
    **dict.fromkeys(
        [
            "unreadable", "qemu-status", "write-threshold",
            "emulator-exec", "machine-gone", "qemu-old-exec", "sandbox", "modules-gone", "ram-private",
            "aux-ram-share", "discard-data", "host-memory", "cold-boot-pending", "next-boot-unprepared", "qemu-blocked",
            "qemu-blocked-live", "capability", "capability-stream", "mode-left", "format", "virtiofs", "filesystem",
            "tpm", "redirdev", "smartcard", "shmem", "crypto", "sound", "spice", "display", "vnc-websocket",
            "interface", "iotune", "transient-disk", "chardev-client", "spice-channel",
            "vdagent",
        ],
        "test_findings.py",
    ),
}  # fmt: skip

NEEDS_KVM = "needs KVM"
NEEDS_HARDWARE = "needs a host device that the lab doesn't have"
NEEDS_OLD_QEMU = "needs a QEMU older than the suites have"
NOT_IN_LAB = {
    "suspended": "the lab's guests can't suspend themselves",
    "ram-missing": "libvirt's files of RAM are there as long as the guest is",
    "input-passthrough": NEEDS_HARDWARE,
    "input-evdev": NEEDS_HARDWARE,
    "ksm": "the lab's kernel has no KSM of its own",
    "state": "a crashed or suspended guest of the lab's kind can't be made",
    "emulator-cpr": NEEDS_OLD_QEMU,
    "emulator-reboot": NEEDS_OLD_QEMU,
    "qemu-old": NEEDS_OLD_QEMU,
    "qemu-old-reboot": NEEDS_OLD_QEMU,
    "qemu-untried": "the suites have only releases that were run",
    "ram-epc": NEEDS_KVM,
    "sgx": NEEDS_KVM,
    "confidential": NEEDS_KVM,
    "invtsc": NEEDS_KVM,
    "hv-passthrough": NEEDS_KVM,
    "vsock": NEEDS_HARDWARE,
    "hostdev": NEEDS_HARDWARE,
    "hostdev-awake": NEEDS_HARDWARE,
    "tpm-passthrough": NEEDS_HARDWARE,
    "iommu": "libvirt 11.3 doesn't know it",
    "virgl": "needs a GPU",
    "disk": NEEDS_HARDWARE,
    "reservations": NEEDS_HARDWARE,
    "nvdimm-private": "from XML only: an NVDIMM needs a file that the lab's guests can't use",
    "chardev-net": "from XML only: the lab has no certificates for libvirt's character devices",
    "argv": "libvirt writes no such command line",
    "resource": "a defect of virtcpr would be needed",
    "agent": "not tried there yet",
}
