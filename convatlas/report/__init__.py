"""Reports of an account: `text`, `markdown`, `csv`, `json` (and `record`, its plain data), and a drawing, `svg`."""

from .drawing import svg
from .forms import csv, json, markdown, record, text

__all__ = ["csv", "json", "markdown", "record", "svg", "text"]
