"""What a swap costs, measured in the lab."""
