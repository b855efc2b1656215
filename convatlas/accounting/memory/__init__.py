"""The bytes that a network needs to train and to run: predicted (predict.py), or measured on a device (watch.py)."""
