"""Training: `fit` (one flat loop), the run folder that it leaves, and what they need."""
