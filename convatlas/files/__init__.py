"""Atomic writes, plain data, locks, and safe unpacking of archives."""
