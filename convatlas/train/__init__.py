"""Training: `fit` (one flat loop) and its parts."""
