"""The events that `fit` reports while it trains: plain records, to be displayed or stored by the caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Event = dict[str, Any]  # its "kind" is start, note, step, epoch or end; see fit
OnEvent = Callable[[Event], None]


def quiet(event: Event) -> None:
    """Ignores every event."""


def note(text: str) -> Event:
    return {"kind": "note", "text": text}
