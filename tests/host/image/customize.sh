#!/bin/sh
# Make the host out of the lab's root.  Runs in that root; /mnt/image holds this directory, /mnt/out takes what the
# emulator needs from outside: kernels, their initramfs, the keys of the channel.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

. /etc/virtcpr-lab/versions
list() { sed 's/#.*//' "/mnt/image/$1"; }
install() { apt-get install -y --no-install-recommends -o Dpkg::Options::=--force-unsafe-io "$@"; }

# A small initramfs: emulated CPUs unpack it slowly.
mkdir -p /etc/initramfs-tools/conf.d
printf 'MODULES=list\nCOMPRESS=zstd\n' > /etc/initramfs-tools/conf.d/virtcpr-host
install $(list packages)
printf '%s\n' virtio_pci virtio_blk ext4 >> /etc/initramfs-tools/modules

# kernel NAME VERSION [OPTION]: the image package that this version of linux-image-amd64 depends on.
kernel() {
    name=$1 version=$2
    shift 2
    package=$(apt-cache show "linux-image-amd64=$version" | grep -o 'linux-image-[0-9][^ ,]*' | head -n 1)
    install "$@" "$package"
    release=${package#linux-image-}
    cp "/boot/vmlinuz-$release" "/mnt/out/vmlinuz-$name"
    cp "/boot/initrd.img-$release" "/mnt/out/initrd-$name"
    echo "$name=$release" >> /mnt/out/kernels
}
candidate() { apt-cache policy "$@" linux-image-amd64 | awk '$1 == "Candidate:" { print $2 }'; }
kernel stable "$(candidate)"
kernel backports "$(candidate -t trixie-backports)" -t trixie-backports
rm -f /var/cache/apt/archives/linux-*.deb
mkdir -p /etc/virtcpr-host
cp /mnt/out/kernels /etc/virtcpr-host/kernels

# The newest QEMU emulates the host: 10.0 ends, or corrupts the host's kernel, when guests under KVM do what it emulates
# badly.  Unpacked, not installed: the host has QEMU as the lab has.
for package in qemu-system-x86 qemu-system-common qemu-system-data; do
    dpkg -x /var/cache/apt/archives/"$package"_"$(echo "$NEXT" | sed 's/:/%3a/')"_*.deb /mnt/out/emulator
done

# What `apt-get install` needs to upgrade libvirt without a network.
install --download-only -t trixie-backports libvirt-daemon-system libvirt-clients libvirt-daemon-config-network

# The witness guest where AppArmor lets a guest read it.
cp /usr/lib/virtcpr-lab/witness/vmlinu[xz] /usr/lib/virtcpr-lab/witness/initrd /var/lib/libvirt/images/

echo virtcpr-host > /etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 virtcpr-host\n' > /etc/hosts
# Every denial of AppArmor is in the kernel's log.
echo 'kernel.printk_ratelimit = 0' > /etc/sysctl.d/virtcpr-host.conf
# Each run of apt would index the manual again.
rm -f /var/lib/man-db/auto-update
# One address, none beyond: the emulator's own network is the channel.
mkdir -p /etc/systemd/network /etc/systemd/system-generators
printf '[Match]\nMACAddress=52:54:00:ff:00:01\n[Network]\nAddress=10.0.2.15/24\n' > /etc/systemd/network/10-channel.network
# The other end of the NIC that is given to guests.
printf '[Match]\nMACAddress=52:54:00:ff:00:02\n[Network]\nAddress=192.168.123.1/24\n' > /etc/systemd/network/20-far.network
# No use for a channel that this machine offers to none.
ln -sf /dev/null /etc/systemd/system-generators/systemd-ssh-generator
systemctl enable -q systemd-networkd ssh
# The channel: many commands at a time over one connection.
mkdir -p /root/.ssh
ssh-keygen -q -t ed25519 -N '' -C virtcpr-host -f /mnt/out/key
cp /mnt/out/key.pub /root/.ssh/authorized_keys
chmod 700 /root/.ssh
printf 'PermitRootLogin prohibit-password\nMaxSessions 100\nUsePAM no\n' > /etc/ssh/sshd_config.d/virtcpr-host.conf
echo "virtcpr-host $(cat /etc/ssh/ssh_host_ed25519_key.pub)" > /mnt/out/known_hosts
# A machine that is stopped and goes on days later has no use for what runs by the calendar; its NVDIMM tells no health.
# A boot without SELinux needn't be followed by one that labels every file and boots again.
for unit in logrotate.timer systemd-tmpfiles-clean.timer systemd-timesyncd.service ndctl-monitor.service \
    selinux-autorelabel-mark.service; do
    ln -sf /dev/null "/etc/systemd/system/$unit"
done
# Last: a label for each file, for whoever boots the host with SELinux.  Nothing reads them without it.
printf 'SELINUX=permissive\nSELINUXTYPE=default\n' > /etc/selinux/config
setfiles -m -F -e /proc -e /dev -e /mnt -e /sys /etc/selinux/default/contexts/files/file_contexts /
