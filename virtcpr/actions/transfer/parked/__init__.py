"""Mode transfer, parked: old QEMU has ended before new makes a device; in between a keeper has the guest."""
