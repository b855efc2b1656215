"""Reports of an account: `text`, `markdown`, `csv`, `json`; and `record`, the plain data of it."""

from .forms import csv, json, markdown, record, text

__all__ = ["csv", "json", "markdown", "record", "text"]
