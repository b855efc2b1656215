"""Atomic writes, locks, and safe unpacking of archives."""
