"""Moves running libvirt domains onto an upgraded QEMU, in place, with QEMU's CPR."""

__version__ = "0.2.0.dev0"
