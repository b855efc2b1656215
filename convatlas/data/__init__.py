"""Labelled images: types, sources, decoding, checks, augmentation and loading."""
