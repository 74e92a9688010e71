#!/bin/sh
# Build the witness guest: a kernel and an initramfs with the witness as /init.  Runs in the lab's root.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
kernel=/usr/lib/virtcpr-lab/kernel
to=/usr/lib/virtcpr-lab/witness
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

mkdir -p "$to" "$scratch/root/modules"
gcc -std=gnu11 -O2 -Wall -Wextra -static -pthread -s -o "$scratch/root/init" "$here"/*.c
python3 "$here/modules.py" "$kernel"/usr/lib/modules/* "$scratch/root/modules"

# Not compressed: under emulation the guest unpacks slower than QEMU loads.
(cd "$scratch/root" && find . | cpio --quiet -o -H newc -R 0:0) > "$to/initrd"
# Nor is the kernel; UEFI alone starts the packed one.
cp "$kernel"/boot/vmlinuz-* "$to/vmlinuz"
python3 "$here/kernel.py" "$to/vmlinuz" | zstd -dqc > "$to/vmlinux"
install -m 755 "$here/watch.py" "$to/watch.py"
