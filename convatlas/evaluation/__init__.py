"""Evaluation: scores on a split, predictions for files, feature maps."""
