#!/bin/sh
# Make the lab out of a bare Debian.  Runs in the new root (mmdebstrap's customize hook); /lab-image holds this
# directory.  Leaves /etc/virtcpr-lab/versions: which QEMU is old, new and next.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

list() { sed 's/#.*//' "/lab-image/$1"; }

# Versions of QEMU per archive, oldest first: "VERSION SUITE".
offered() {
    apt-cache madison qemu-system-x86 | awk -F' *[|] *' '$3 ~ /Packages$/ { split($3, w, " "); print $2, w[2] }' |
        sort -uV
}
backported() { case $1 in *backports*) return 0 ;; *) return 1 ;; esac; }

old= new= next=
while read -r version suite; do
    dpkg --compare-versions "$version" ge 1:10.0 || continue
    if backported "$suite"; then next=$version; next_suite=${suite%%/*}; continue; fi
    [ -n "$old" ] || old=$version
    new=$version
done <<EOF
$(offered)
EOF
[ -n "$old" ] && [ -n "$new" ] && [ -n "$next" ] && [ "$old" != "$new" ] ||
    { echo "the suites do not offer three versions of QEMU: old='$old' new='$new' next='$next'" >&2; exit 1; }
mkdir -p /etc/virtcpr-lab
printf 'OLD=%s\nNEW=%s\nNEXT=%s\nNEXT_SUITE=%s\n' "$old" "$new" "$next" "$next_suite" > /etc/virtcpr-lab/versions

at() { for package in $(list qemu-packages); do printf '%s=%s ' "$package" "$1"; done; }

apt-get install -y --no-install-recommends $(list packages) $(at "$old")

apt-get clean

# What `apt-get install` needs to upgrade, and to go back, without a network.
apt-get install -y --no-install-recommends --download-only $(at "$new")
apt-get install -y --no-install-recommends --download-only -t "$next_suite" $(at "$next")
apt-get install -y --reinstall --download-only $(at "$old")
# libvirt again in one run with QEMU.  And what a test installs by itself: it would hook into every run of apt.
apt-get install -y --reinstall --download-only libvirt-daemon
apt-get install -y --no-install-recommends --download-only needrestart

# The witness guest's kernel: unpacked, not installed (the lab itself has none).
kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" { print $2; exit }')
mkdir -p /usr/lib/virtcpr-lab
(cd /tmp && apt-get download "$kernel" && dpkg -x "$kernel"_*.deb /usr/lib/virtcpr-lab/kernel && rm "$kernel"_*.deb)

# Emulators of other architectures: unpacked, not installed.
foreign() { # DIRECTORY PACKAGE...
    root=/usr/lib/virtcpr-lab/$1
    shift
    (cd /tmp && apt-get download "$@" && for deb in *.deb; do dpkg -x "$deb" "$root"; done && rm ./*.deb)
}
foreign aarch64 "qemu-system-arm=$old"
foreign riscv64 "qemu-system-riscv=$old" opensbi

# Debian leaves the default network for the administrator to start.
ln -sf /etc/libvirt/qemu/networks/default.xml /etc/libvirt/qemu/networks/autostart/default.xml
# No network to wait for, no login, no use for a lab's daily timers.
for unit in systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer man-db.timer \
    dpkg-db-backup.timer e2scrub_all.timer fstrim.timer systemd-resolved.service; do
    ln -sf /dev/null "/etc/systemd/system/$unit"
done
# Every run of dpkg would index the manual pages.
rm -f /var/lib/man-db/auto-update
echo virtcpr-lab > /etc/hostname
rm -f /usr/lib/python3*/EXTERNALLY-MANAGED

# Root's python packages go beside the distribution's: the checkout is installed there (tests/lab/machine.py).
sh /lab-witness/build.sh
