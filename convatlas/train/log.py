"""log.jsonl: what happened in a run, a line of JSON each; it survives kills."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .checkpoint import unwritable, write_text


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines, up to the first that a kill cut short; none before there is a file."""
    lines: list[dict[str, Any]] = []
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


class Log:
    """Appends to the log, after dropping what lies beyond `epoch` and `step`, from where training goes on.

    Steps are counted from the start of the run. A line that tells of a whole epoch counts as done when the epoch is.
    Of several processes one `writes`.
    """

    def __init__(self, path: Path, epoch: int, step: int, *, writes: bool = True):
        self.path, self.writes = path, writes
        if not writes:
            return
        old = read_log(path)
        kept = [line for line in old if line["step"] <= step and (line["kind"] != "epoch" or line["epoch"] <= epoch)]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, kind: str, **fields: Any) -> None:
        """Raises checkpoint.Unwritable when the disk is full."""
        if not self.writes:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"kind": kind, **fields}) + "\n")
        except OSError as error:
            raise unwritable(self.path, error) from error
