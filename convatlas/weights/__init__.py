"""Weights files, from convatlas and elsewhere, read without executing anything in them; models; verified downloads."""
