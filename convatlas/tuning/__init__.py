"""From a trained network to a classifier of your images: features, a linear probe, fine-tuning, and which pays."""
