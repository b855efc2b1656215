"""log.jsonl: a run's events, one JSON object per line; it survives kills. log.csv: its epochs as a table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from csv import DictWriter
from io import StringIO
from math import inf
from pathlib import Path
from typing import Any

from ..errors import UserError, unread
from ..files.atomic import unwritable, write_text
from ..files.lock import check_held
from ..files.plain import from_json


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines, without any that are truncated or damaged; empty if there is no file."""
    return [line for line in lines_of(path) if line is not None]


def lines_of(path: Path) -> list[dict[str, Any] | None]:
    """All lines that are not empty; None for a damaged one."""
    try:
        texts = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise unread(path, error) from error
    return [parsed(text) for text in texts if text.strip()]


def parsed(text: bytes) -> dict[str, Any] | None:
    try:
        line = from_json(text)
    except ValueError:
        return None
    return line if is_line(line) else None


def is_line(line: Any) -> bool:
    """Whether it has its kind and step and, for an epoch, the epoch's number, losses and top-1, each of its type; and
    norms of gradients, where an epoch has them: those of older versions have none."""
    if not isinstance(line, dict) or not isinstance(line.get("kind"), str) or not is_count(line.get("step")):
        return False
    if line["kind"] != "epoch":
        return True
    parts = [line.get(name) for name in ("train", held_out(line))]
    scored = all(isinstance(part, dict) and is_score(part) for part in parts)
    return is_count(line.get("epoch")) and scored and is_gradient(line.get("gradient", {}))


def is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


def is_score(part: Mapping[str, Any]) -> bool:
    """Whether all are numbers, a loss and a top-1 accuracy among them."""
    numbers = all(type(value) in (int, float) for value in part.values())
    return numbers and {"loss", "top1"} <= part.keys() and 0 <= part["top1"] <= 1


def is_gradient(stages: Any) -> bool:
    """Whether it has the mean and the largest norm of each stage."""
    return isinstance(stages, dict) and all(
        isinstance(of, dict) and of.keys() == {"mean", "max"} and all(is_norm(norm) for norm in of.values())
        for of in stages.values()
    )


def is_norm(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < inf


def held_out(line: Mapping[str, Any]) -> str:
    """The held-out split that an epoch was evaluated on: "val" if the data has one, else "test"."""
    return "val" if "val" in line else "test"


def write_csv(path: Path, epochs: Sequence[dict[str, Any]]) -> None:
    """One row per epoch; nested objects are flattened: "test" becomes test_loss, test_top1 ..."""
    rows = [flat(line) for line in epochs]
    text = StringIO()
    table = DictWriter(text, fieldnames=list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(path, text.getvalue())


def flat(line: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The numbers in a line, nested ones as "outer_inner"."""
    found: dict[str, Any] = {}
    for name, value in line.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}_")
        elif isinstance(value, int | float):
            found[prefix + name] = value
    return found


class Log:
    """Appends to the log, after dropping lines beyond `epoch` and `step`, where training continues.

    Steps are counted from the start of the run; an epoch's own line is kept if that epoch is complete. With several
    processes only one `writes`. `tensorboard` also writes the numbers as TensorBoard event files, to the folder
    tensorboard/ beside the log. Raises UserError when TensorBoard is not installed.
    """

    def __init__(self, path: Path, epoch: int, step: int, *, writes: bool = True, tensorboard: bool = False):
        self.path, self.writes = path, writes
        self.board: Any = board(path.parent / "tensorboard", step) if writes and tensorboard else None
        if not writes:
            return
        old = read_log(path)
        kept = [line for line in old if line["step"] <= step and (line["kind"] != "epoch" or line["epoch"] <= epoch)]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, kind: str, **fields: Any) -> None:
        """An epoch's line is on the disk when this returns. Raises Unwritable when the disk is full, and Gone when the
        folder has been deleted."""
        if not self.writes:
            return
        check_held(self.path.parent)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"kind": kind, **fields}) + "\n")
                if kind == "epoch":
                    file.flush()
                    os.fsync(file.fileno())
            if self.board:
                for name, value in flat({k: v for k, v in fields.items() if k not in ("step", "epoch")}).items():
                    self.board.add_scalar(f"{kind}/{name}", value, fields["step"])
                self.board.flush()
        except OSError as error:
            raise unwritable(self.path, error) from error


def board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("TensorBoard is not installed", "pip install 'convatlas[log]'") from error
    try:
        return SummaryWriter(str(folder), purge_step=step + 1)
    except UnicodeEncodeError as error:
        raise UserError(f"TensorBoard cannot write to {folder}, which is not UTF-8", "give another --out") from error
