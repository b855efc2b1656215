"""An archive unpacked once, to a folder beside it that knows which archive it is from."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ..errors import UserError, unread
from .archive import unpack
from .atomic import write_text
from .plain import read_json
from .regular import attentive, regular

RECORD = ".archive.json"  # in the folder: the archive's sha256, and by what it is recognised without reading it


def unpacked_once(archive: Path, into: Path) -> Path:
    """`into`, to which the archive is unpacked unless it has been. Raises UserError as `unpack` does, and for a folder
    that is from another archive, or from who knows where."""
    try:
        known = recognised_by(archive)
        if os.path.lexists(into):
            check(archive, into, known)
            return into
        record = {**known, "sha256": sha256(archive)}
        unpack(archive, into)
        if recognised_by(archive) != known:
            raise UserError(f"{archive} has changed while it was unpacked", f"remove {into} and start again")
    except OSError as error:
        raise unread(archive, error) from error
    write_text(into / RECORD, json.dumps(record))
    return into


def check(archive: Path, into: Path, known: dict[str, Any]) -> None:
    """Raises UserError unless `into` was unpacked from the archive: the same file, or one of the same content."""
    again = f"give {into} itself, or remove it so that {archive.name} is unpacked again"
    try:
        record = read_json(into / RECORD)
        was, digest = {name: record[name] for name in known}, record["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{into} lies beside {archive}, but was not unpacked from it by convatlas", again) from error
    if was != known and (was["bytes"] != known["bytes"] or digest != sha256(archive)):
        raise UserError(f"{archive} is not the archive that {into} was unpacked from", again)


def recognised_by(archive: Path) -> dict[str, Any]:
    about = regular(archive)
    return {"bytes": about.st_size, "modified_ns": about.st_mtime_ns, "changed_ns": about.st_ctime_ns}


def sha256(archive: Path) -> str:
    with attentive(archive) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
