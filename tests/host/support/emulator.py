"""The machine under the host: QEMU NEXT, whose emulated CPUs have SVM with nested paging."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.host.support.disk import HostError
from tests.lab.support.process import Process

# As it was unpacked beside the disk (image/customize.sh).
UNPACKED = "/mnt/disk/emulator/usr"
PROGRAM = (
    "env",
    f"QEMU_MODULE_DIR={UNPACKED}/lib/x86_64-linux-gnu/qemu",
    f"{UNPACKED}/bin/qemu-system-x86_64",
    "-L",
    f"{UNPACKED}/share/qemu",
)
MEMORY_MIB = 5120
NVDIMM_MIB = 1024
# Of customize.sh, too.
CHANNEL_MAC, FAR_MAC, GIVEN_MAC = "52:54:00:ff:00:01", "52:54:00:ff:00:02", "52:54:00:ff:00:03"
SPARE_NVME = {"driver": "nvme", "id": "nvme1", "serial": "spare", "drive": "spare", "bus": "rp2"}
# $1: the lab's root, which is only read; $2 to $4: what the emulator sees; $5: its cgroup.  Then its command.
# Mounts end with it.
ENTER = r"""
root=$1
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs tmpfs "$root/mnt"
mkdir "$root/mnt/disk" "$root/mnt/snapshot" "$root/mnt/run"
mount --bind "$2" "$root/mnt/disk"
mount --bind "$3" "$root/mnt/snapshot"
mount --bind "$4" "$root/mnt/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
[ -z "$5" ] || echo 0 > "$5/cgroup.procs"
shift 5
exec chroot "$root" "$@"
"""


@dataclass(frozen=True)
class Places:
    """Directories: the lab's root, the disk, the snapshot, and what belongs to one machine that runs."""

    root: Path
    disk: Path
    snapshot: Path  # while it is made: the same as `run`
    run: Path

    def inside(self, *command: str, cgroup: Path | None = None) -> list[str]:
        """What runs a command in the lab's root, with the other directories under /mnt."""
        places = map(str, (self.root, self.disk, self.snapshot, self.run, cgroup or ""))
        return ["unshare", "--mount", "--propagation=private", "sh", "-euc", ENTER, "sh", *places, *command]


def make_overlay(places: Places, backing: str, backing_format: str) -> None:
    """The disk of one machine: what it writes, over what all have."""
    command = ("qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", backing_format, "/mnt/run/disk.qcow2")
    made = subprocess.run(
        places.inside(*command), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        raise HostError(f"the host's disk: {made.stderr.strip()}")
    with (places.run / "spare.img").open("wb") as spare:
        spare.truncate(256 << 20)


def start(places: Places, kernel: str, cgroup: Path, *more: str, append: str = "", tied: bool = False) -> Process:
    """Start the emulator; its log is in ``run``.  ``append``: to the kernel's options.  ``tied``: it ends
    with this process, however that ends."""
    cgroup.mkdir(exist_ok=True)
    (places.run / "qmp").unlink(missing_ok=True)
    with (places.run / "emulator.log").open("wb") as log:
        child = subprocess.Popen(
            [
                *(("setpriv", "--pdeathsig", "KILL") if tied else ()),
                *places.inside(*command(kernel, *more, append=append), cgroup=cgroup),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    process = Process.of(child.pid)
    (places.run / "pid").write_text(f"{process.pid} {process.started}")
    return process


def command(kernel: str, *more: str, append: str = "") -> list[str]:
    """The emulator's command line: the same for a machine that is saved and for those it is restored to."""
    half = MEMORY_MIB // 2
    line = " ".join(
        (
            "root=/dev/vda rw console=ttyS0 quiet net.ifnames=0 panic=5",
            "intel_iommu=on iommu=pt",
            "tsc=reliable",  # the emulated CPUs have one clock, but the kernel measures it and loses faith
            "mitigations=off",  # they cost more under emulation than elsewhere, and there is nothing to protect
            append,
        )
    )
    options = {
        "name": "virtcpr-host",
        "machine": "q35,nvdimm=on,kernel-irqchip=split,hpet=off",
        "accel": "tcg,thread=multi,tb-size=1024",
        "cpu": "max,la57=off",
        "smp": "2,sockets=2",
        "m": f"{MEMORY_MIB}M,slots=4,maxmem={2 * MEMORY_MIB}M",
        "display": "none",
        "kernel": f"/mnt/disk/vmlinuz-{kernel}",
        "initrd": f"/mnt/disk/initrd-{kernel}",
        "append": line,
        "rtc": "base=utc",
        "serial": "file:/mnt/run/console.log",
        "qmp": "unix:/mnt/run/qmp,server=on,wait=off",
        # a host that resets itself ends the emulator, and a triple fault says nothing on its console: then the log has
        # why (ShutdownCause in QEMU's qapi/run-state.json, by number)
        "d": "cpu_reset,guest_errors",
        "D": "/mnt/run/resets.log",
    }
    many = {
        "trace": ("runstate_set", "qemu_system_shutdown_request"),
        "object": (
            f"memory-backend-ram,id=ram0,size={half}M",
            f"memory-backend-ram,id=ram1,size={half}M",
            f"memory-backend-file,id=nv,mem-path=/mnt/run/nvdimm,size={NVDIMM_MIB}M,share=on",
        ),
        "numa": (
            "node,nodeid=0,cpus=0,memdev=ram0",
            "node,nodeid=1,cpus=1,memdev=ram1",
            "dist,src=0,dst=1,val=20",
        ),
        "blockdev": (
            "file,node-name=disk-file,filename=/mnt/run/disk.qcow2,cache.direct=off,cache.no-flush=on",
            "qcow2,node-name=disk,file=disk-file,cache.no-flush=on,discard=unmap",
            "raw,node-name=spare,file.driver=file,file.filename=/mnt/run/spare.img",
        ),
        # what a guest with the spare NIC sends arrives at the host's own NIC on the same hub
        "netdev": (
            "user,id=channel,restrict=on",
            "user,id=spare-net,restrict=on",
            "hubport,id=given,hubid=1",
            "hubport,id=far,hubid=1",
        ),
        "device": (
            "intel-iommu,intremap=on,caching-mode=on",
            "nvdimm,id=nvdimm1,memdev=nv,node=1",
            "virtio-blk-pci,drive=disk",
            f"virtio-net-pci,netdev=channel,mac={CHANNEL_MAC}",
            "virtio-rng-pci",
            # what the host doesn't use goes back to the machine below, and is not in the snapshot
            "virtio-balloon-pci,free-page-reporting=on",
            "pcie-root-port,id=rp1,chassis=1,slot=1",
            "pcie-root-port,id=rp2,chassis=2,slot=2",
            "e1000e,netdev=spare-net,bus=rp1",
            "pcie-root-port,id=rp3,chassis=3,slot=3",
            f"virtio-net-pci,netdev=given,bus=rp3,mac={GIVEN_MAC},iommu_platform=on,disable-legacy=on",
            f"virtio-net-pci,netdev=far,mac={FAR_MAC}",
        ),
    }
    argv = [*PROGRAM, "-nodefaults", "-no-user-config", "-no-reboot"]
    for name, value in options.items():
        argv += [f"-{name}", value]
    for name, values in many.items():
        for value in values:
            argv += [f"-{name}", f"driver={value}" if name == "blockdev" else value]
    return [*argv, *more]
