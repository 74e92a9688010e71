"""What old QEMU has of the host and new needs too, though only one can have it: taken, and given back."""
