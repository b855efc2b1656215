"""One network family, one file, to be read beside its paper."""
