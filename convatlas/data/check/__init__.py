"""What is wrong with a set: files that are no whole images (bad), and findings about the images (scan)."""
