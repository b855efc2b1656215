"""The machine that training runs on: devices, processes and signals."""
