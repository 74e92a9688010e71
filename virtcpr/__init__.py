"""Moves running libvirt domains onto an upgraded QEMU, in place, with QEMU's CPR."""

__version__ = "0.1.0"
