"""Times of networks predicted from profiles: of any account, and of all networks of the atlas at once. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

from ...accounting.rows import Account
from ...errors import UserError
from ...files.atomic import Unwritable, write_text
from ...files.plain import read_json
from ...tables import FOLDER, index, load
from . import features as sums
from . import work
from .features import Features, features
from .profile import HOW, Estimate, Profile, estimated, folder, here

KEPT = "features.json"  # in the cache: of the shipped tables


def estimate(network: Account | str, profile: Profile, batch: int = 1) -> Estimate:
    """The time that a batch of a network takes: of an account, or of the atlas's network of that name."""
    counts = load(network) if isinstance(network, str) else network
    found = features(counts.rows, counts.input, counted=counts.batch, batch=batch)
    return estimated(found, profile, batch)


def chosen(engine: str | None, precision: str, threads: int) -> list[Profile]:
    """The profiles that hold on this machine for a precision and number of threads, of one engine or of all."""
    profiles = here()
    found = [
        p
        for p in profiles
        if engine in (None, p.key.engine) and (precision, threads) == (p.key.precision, p.key.threads)
    ]
    if not found:
        asked = f"{engine or 'an engine'} in {precision} on {threads} thread{'s' * (threads > 1)}"
        raise UserError(f"no profile of {asked} holds here; there are {'; '.join(str(p.key) for p in profiles)}", HOW)
    return found


def fastest(estimates: Iterable[Estimate]) -> Estimate:
    return min(estimates, key=lambda found: found.median_s)


def of_atlas(profiles: Sequence[Profile]) -> dict[str, Estimate]:
    """The time of one image in every network of the atlas, on the fastest of the profiles."""
    return {name: fastest(estimated(found, p) for p in profiles) for name, found in shipped_features().items()}


def shipped_features() -> dict[str, Features]:
    """The features of every shipped table at its input, kept in the cache: reading all tables takes a second."""
    kept, digest = folder() / KEPT, digest_of_tables()
    try:
        record = read_json(kept)
        if record["digest"] == digest:
            found: dict[str, Features] = record["features"]
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, of older tables, or damaged: counted again
    found = {}
    for name in index():
        counts = load(name)
        found[name] = features(counts.rows, counts.input)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, json.dumps({"digest": digest, "features": found}))
    except (OSError, Unwritable):
        pass  # a cache that cannot be written costs a second each time
    return found


def digest_of_tables() -> str:
    """Of the tables, and of the code that makes features of them."""
    found = sha256()
    for file in (*sorted(FOLDER.glob("*.csv")), FOLDER / "index.json", Path(work.__file__), Path(sums.__file__)):
        found.update(file.read_bytes())
    return found.hexdigest()
