"""The machine that the work runs on: devices, processes and signals."""
