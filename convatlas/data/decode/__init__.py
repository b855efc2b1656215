"""Decoding image files: the reference decoder, and the fast one that agrees with it."""
