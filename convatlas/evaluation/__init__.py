"""What a network makes of images: scores of a split, predictions of files."""
