"""What other tools count as FLOPs, with their totals explained line by line."""
