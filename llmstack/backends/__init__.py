"""What serves tiers that no swapper runs: one module for each kind."""
