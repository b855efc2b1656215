"""The cache: a folder of this user's for what can be fetched or made again. CONVATLAS_CACHE says where else it is."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path


def cache(room: str = "weights") -> Path:
    import pooch

    return Path(os.environ.get("CONVATLAS_CACHE") or pooch.os_cache("convatlas")) / room


def used(file: Path, most: int) -> Path:
    """The file, noted as used now; of its folder's others those that were used longest ago are deleted until all take
    at most `most` bytes. What belongs together (net.xml and net.bin) is kept and deleted together."""
    with suppress(OSError):  # a folder that is only read
        os.utime(file)
        shrink(file, most)
    return file


def shrink(keep: Path, most: int) -> None:
    together = defaultdict(list)
    for file in keep.parent.iterdir():
        if file.is_file():
            together[file.stem].append((file, file.stat()))
    size = {stem: sum(stat.st_size for _, stat in files) for stem, files in together.items()}
    oldest = sorted(together, key=lambda stem: max(stat.st_mtime_ns for _, stat in together[stem]))
    total = sum(size.values())
    for stem in oldest:
        if total <= most:
            return
        if stem != keep.stem:
            total -= size[stem]
            for file, _ in together[stem]:
                file.unlink(missing_ok=True)
