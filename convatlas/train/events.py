"""What `fit` tells while it trains: plain records, for whoever draws or keeps them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Event = dict[str, Any]  # its "kind" is start, note, step, epoch or end; see fit
OnEvent = Callable[[Event], None]


def quiet(event: Event) -> None:
    """Says nothing."""


def note(text: str) -> Event:
    return {"kind": "note", "text": text}
