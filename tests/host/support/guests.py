"""Guests for the host, whose CPUs are slow: they beat, verify RAM and write to disks less often than in the lab."""

from __future__ import annotations

from tests.lab.support.guests import Shape

KVM = Shape(
    "kvm",
    20,
    kvm=True,
    serial="file",
    ram_mib=32,
    interval_us=50_000,
    kernel_options="witness.ram_pause=200000 witness.disk_pause=200000",
)
