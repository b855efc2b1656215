"""The run folder: its record, checkpoints, log and curves."""
