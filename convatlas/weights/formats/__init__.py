"""One reader a file for the weights of each framework; which of them a file is for."""

from .recognise import SUFFIXES, recognised

__all__ = ["SUFFIXES", "recognised"]
