"""The version, in its only place: pyproject.toml reads it here, and no installed metadata is needed."""

VERSION = "0.1.0"
