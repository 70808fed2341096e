"""What serves a tier, behind one protocol: `Backend` and `Lease` in `base`."""
