"""The cache: a folder of this user's for what can be fetched or made again. CONVATLAS_CACHE says where else it is."""

from __future__ import annotations

import os
from pathlib import Path


def cache(room: str = "weights") -> Path:
    import pooch

    return Path(os.environ.get("CONVATLAS_CACHE") or pooch.os_cache("convatlas")) / room
