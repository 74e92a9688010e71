# What a host has done that has been up for a while: libvirt knows its emulator, a guest has run.  Runs in the host.
export LC_ALL=C.UTF-8
systemctl is-system-running --wait || systemctl --failed --no-legend
test "$(systemctl is-system-running)" = running
udevadm settle
test -c /dev/kvm
test "$(aa-enabled)" = Yes
virsh -q domcapabilities --virttype kvm > /dev/null
virsh -q domcapabilities --virttype qemu > /dev/null
virsh -q net-list
cat > /run/warm.xml <<XML
<domain type='kvm'>
  <name>warm</name><memory unit='MiB'>256</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type><kernel>/var/lib/libvirt/images/vmlinux</kernel>
  <initrd>/var/lib/libvirt/images/initrd</initrd><cmdline>console=ttyS0 quiet panic=-1 witness.id=200</cmdline></os>
  <features><acpi/><apic/></features><cpu mode='host-passthrough'/>
  <devices><interface type='network'><source network='default'/><model type='virtio'/><driver name='vhost'/></interface></devices>
</domain>
XML
virsh -q create /run/warm.xml
sleep 20
virsh -q destroy warm
rm /run/warm.xml
modprobe -a nvme
python3 -c 'import libvirt, lxml.etree, rich, typer, qemu.qmp'
journalctl --rotate -q
journalctl --vacuum-time=1s -q
dmesg --clear
sync
# What is free goes back to the emulator, which needn't save it.
echo 1 > /proc/sys/vm/compact_memory
sleep 20
