"""One file per network family, each to be read beside its paper."""
