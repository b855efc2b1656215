"""The bytes that a network needs to train and to run: predicted (predict.py), and watched on a device (watch.py)."""
