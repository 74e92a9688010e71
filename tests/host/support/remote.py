"""A machine that somebody gives for the tests, reached by ssh: a Debian 13 with KVM, and nothing on it that is missed.

VIRTCPR_HOST=ssh:root@ADDRESS.  Its domains are removed, its libvirt, AppArmor and QEMU are changed.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.host.support.channel import Channel
from tests.host.support.disk import HostError
from tests.host.support.installing import install
from tests.lab.support.checkout import fingerprint
from tests.lab.support.kept import locked
from tests.lab.support.machine import Lab
from tests.paths import HOST, LAB

ANSWER_SECONDS = 30
PREPARE_SECONDS = 1800
RESET_SECONDS = 600
KEPT = "/var/lib/virtcpr-tests"
# What of the lab's root the tests use: the witness, the versions of QEMU, and apt's knowledge and packages of them.
GIVEN = ("usr/lib/virtcpr-lab", "etc/virtcpr-lab", "etc/apt", "var/lib/apt/lists", "var/cache/apt/archives")
# A machine that has domains is somebody's: the tests would remove them.  So it is, if they can't be listed.
CLAIM = r"""
. /etc/os-release
[ "$VERSION_CODENAME" = trixie ] || { echo "it is $PRETTY_NAME, and not Debian 13"; exit 1; }
[ -c /dev/kvm ] || { echo "it has no /dev/kvm"; exit 1; }
if [ ! -e KEPT/etc.tar ]; then
    domains=$(find /etc/libvirt/qemu /run/libvirt/qemu -maxdepth 1 -name '*.xml' 2>/dev/null || true)
    [ ! -e /usr/bin/virsh ] || domains="$domains$(virsh -q list --all --name)"
    if [ -n "$domains" ]; then
        echo "it has domains, which the tests would remove: give another machine, or remove them yourself: $domains"
        exit 1
    fi
fi
if [ ! -e KEPT/apt.tar ]; then
    mkdir -p KEPT
    tar -cf KEPT/apt.part -C / etc/apt
    mv KEPT/apt.part KEPT/apt.tar
fi
rm -rf /etc/apt
tar -xf KEPT/apt.tar -C /
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -qy --no-install-recommends PACKAGES
""".replace("KEPT", KEPT)
# Unpacks what is given.
PREPARE = r"""
rm -rf /etc/apt/sources.list* /etc/apt/preferences.d
tar -xC /
cp /usr/lib/virtcpr-lab/witness/vmlinu[xz] /usr/lib/virtcpr-lab/witness/initrd /var/lib/libvirt/images/
ln -sf /etc/libvirt/qemu/networks/default.xml /etc/libvirt/qemu/networks/autostart/default.xml
if [ ! -e KEPT/etc.tar ]; then
    tar -cf KEPT/etc.part -C / etc/libvirt etc/apparmor.d etc/systemd/system
    mv KEPT/etc.part KEPT/etc.tar
fi
""".replace("KEPT", KEPT)
RESET = r"""
tar -tf KEPT/etc.tar > /dev/null
for name in $(virsh -q list --all --name); do
    virsh -q destroy "$name" 2>/dev/null || true
    virsh -q undefine --nvram --managed-save --snapshots-metadata --checkpoints-metadata "$name"
done
systemctl stop 'virtcpr*' 2>/dev/null || true
rm -rf /run/virtcpr /var/lib/virtcpr /etc/virtcpr /etc/libvirt /etc/apparmor.d /etc/systemd/system
tar -xf KEPT/etc.tar -C /
systemctl daemon-reload
systemctl reload apparmor
. /etc/virtcpr-lab/versions
packages=
for name in QEMU; do packages="$packages $name=$OLD"; done
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-download --allow-downgrades $packages
systemctl restart libvirtd
virsh -q net-start default 2>/dev/null || true
""".replace("KEPT", KEPT)


def packages(*lists: Path) -> str:
    """Those that the lab's and the host's lists name, a version of QEMU aside."""
    lines = (line.partition("#")[0].strip() for path in lists for line in path.read_text().splitlines())
    return " ".join(line for line in lines if line)


class Remote:
    """The same verbs as the emulated host's.  Its own configuration, as it came, is kept in KEPT."""

    def __init__(self, address: str, store: Path) -> None:
        self.lab = Lab(store)
        self.store = store / "remote"
        self.run = self.store / hashlib.sha256(address.encode()).hexdigest()[:8]
        self.channel = RemoteChannel(address, self.run)

    def build(self) -> None:
        """Have on it what the tests need, once."""
        with locked(self.store):
            self._build()

    def up(self) -> None:
        """Have this checkout installed on it."""
        with locked(self.store):
            self._install(self._build())

    def reset(self) -> None:
        """No domain is left, QEMU OLD is installed, and what tests configure is as it was."""
        with locked(self.store):
            root = self._build()
            qemu = packages(LAB / "image/qemu-packages")
            self.channel.quietly(RESET.replace("QEMU;", f"{qemu};"), seconds=RESET_SECONDS)
            self._install(root)

    def reboot(self, kernel: str = "", options: str = "") -> None:
        raise HostError("a machine that is given isn't rebooted")

    def down(self) -> None:
        """Leave it; what was installed stays."""
        with locked(self.store):
            self.channel.close()

    def exec(self, argv: Sequence[str]) -> int:
        """Run a command on it with this process's stdin, stdout, stderr; its exit status, shell style."""
        self._open()
        return self.channel.exec(argv)

    def logs(self) -> list[tuple[str, str]]:
        return []

    def _open(self) -> None:
        self.run.mkdir(parents=True, exist_ok=True)
        if not self.channel.is_open():
            self.channel.open(None, ANSWER_SECONDS)

    def _build(self) -> Path:
        root = self.lab.build()
        self._open()
        stamp = f"{KEPT}/{root.name}"
        if self.channel.quietly(f"[ ! -e {stamp} ] || echo there"):
            return root
        needed = packages(LAB / "image/packages", LAB / "image/qemu-packages", HOST / "image/packages")
        self.channel.quietly(CLAIM.replace("PACKAGES", needed), seconds=PREPARE_SECONDS)
        with tempfile.TemporaryFile() as archive:
            subprocess.run(["tar", "-C", str(root), "-c", *GIVEN], stdout=archive, check=True)
            archive.seek(0)
            self.channel.quietly(f"{PREPARE}touch {stamp}\n", archive, seconds=PREPARE_SECONDS)
        return root

    def _install(self, root: Path) -> None:
        wanted = fingerprint()
        stamp = f"{KEPT}/checkout"
        if self.channel.quietly(f"cat {stamp} 2>/dev/null || true") != wanted:
            install(root, self.channel)
            self.channel.quietly(f"printf %s {wanted} > {stamp}")


class RemoteChannel(Channel):
    """By the user's own configuration of ssh."""

    def __init__(self, address: str, run: Path) -> None:
        super().__init__(run)
        self.address = address

    def _way(self) -> list[str]:
        return [self.address]
