"""Weights from a repository of the Hugging Face hub: NETWORK@hf:OWNER/REPOSITORY, by the hub's own client.

The token, the cache and the address are the client's (`hf auth login`, HF_HOME, HF_ENDPOINT). Only the file of weights
is fetched, and read as any other; CONVATLAS_OFFLINE=1 or HF_HUB_OFFLINE=1 opens no connection.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import UserError, first_line
from .cache import offline
from .published import Published, published

FILES = ("model.safetensors", "pytorch_model.bin")  # what repositories call their weights, in the order of preference
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def on_hub(model: str | Path) -> tuple[str, str] | None:
    """The network and the repository that a MODEL names; None for one that is not on the hub."""
    network, at, repository = str(model).partition("@hf:")
    if not at:
        return None
    if not network or not REPOSITORY.fullmatch(repository):
        raise UserError(f"{str(model)[:80]!r} names no repository", "write NETWORK@hf:OWNER/REPOSITORY")
    return network, repository


def published_at(repository: str) -> Published | None:
    """What weights.toml has of the repository's weights."""
    return next((row for row in published().values() if f"huggingface.co/{repository}/" in row.url), None)


def fetch_from_hub(repository: str) -> Path:
    """The repository's weights, in the client's cache.

    Raises UserError where the client is not installed, and for what is not there or cannot be fetched.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import (
            EntryNotFoundError,
            HfHubHTTPError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
        )
    except ImportError as error:
        raise UserError("weights of the hub need huggingface_hub", "pip install 'convatlas[hub]'") from error
    here = offline() or os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE")
    for name in FILES:
        try:
            endpoint = os.environ.get("HF_ENDPOINT")
            return Path(hf_hub_download(repository, name, local_files_only=here, endpoint=endpoint))
        except EntryNotFoundError as error:
            missing = error
        except RepositoryNotFoundError as error:
            raise UserError(
                f"the hub has no repository {repository}, or not for everybody", "log in with `hf auth login`"
            ) from error
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise UserError(f"{repository} cannot be fetched from the hub ({first_line(error)[:200]})") from error
    if here:
        raise UserError(
            f"{repository} is not in the hub's cache, and CONVATLAS_OFFLINE or HF_HUB_OFFLINE is set", "fetch it first"
        ) from missing
    if isinstance(missing, LocalEntryNotFoundError):
        raise UserError(f"the hub cannot be reached, and {repository} is not in its cache", "try later") from missing
    raise UserError(
        f"{repository} has neither {' nor '.join(FILES)}", "give the file that it has, once it is here"
    ) from missing
