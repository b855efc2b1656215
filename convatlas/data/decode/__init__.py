"""An image file's bytes as pixels: the reference decoder, and the fast one that agrees with it."""
