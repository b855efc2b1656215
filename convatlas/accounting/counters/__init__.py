"""What other tools count as FLOPs, and their totals explained line by line."""
