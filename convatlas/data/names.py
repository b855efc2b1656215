"""The names of well-known classes, in the order of their numbers, and names of classes compared."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from unicodedata import normalize

CLASSES = Path(__file__).with_name("classes")  # NAME.txt: a line per class; ImageNet's begin with the synset
BACKGROUND = "background"  # TensorFlow's class 0, before those of ImageNet
RANKS = 4  # of keys_by_rank
SYNSET = re.compile(r"n[0-9]{8}(?![0-9])")  # WordNet's number of a meaning: n01440764


@cache
def class_names(classes: str) -> tuple[str, ...]:
    """The names of a list of classes: imagenet, imagenet_background, cifar10 or mnist."""
    if classes == "imagenet_background":
        return (BACKGROUND, *class_names("imagenet"))
    return tuple((CLASSES / f"{classes}.txt").read_text(encoding="utf-8").splitlines())


def unnamed(count: int) -> tuple[str, ...]:
    """The classes of a network whose weights do not name them: output 0, output 1 ..."""
    return tuple(f"output {i}" for i in range(count))


def outputs_of(data: Sequence[str], model: Sequence[str]) -> list[int | None]:
    """For each of the data's classes the model's output of that class: by its name, its synset, or one of its words.

    None for a class without an output, and for classes that have the same one.
    """
    known = table(model)
    found = [next((known[key] for key in keys(name) if key in known), None) for name in data]
    times = Counter(found)
    return [output if times[output] == 1 else None for output in found]


def table(names: Sequence[str]) -> Mapping[str, int]:
    """The classes by each of their keys that no other class has; keys of a lower rank count before others."""
    found: dict[str, int] = {}
    for rank in range(RANKS):
        at: dict[str, set[int]] = {}
        for i, name in enumerate(names):
            for key in keys_by_rank(name)[rank]:
                at.setdefault(key, set()).add(i)
        found |= {key: min(classes) for key, classes in at.items() if len(classes) == 1 and key not in found}
    return found


def keys(name: str) -> Iterable[str]:
    return (key for ranked in keys_by_rank(name) for key in ranked)


def keys_by_rank(name: str) -> tuple[list[str], ...]:
    """What a class may be known by: its name, its synset, all the words that mean it, and each of them."""
    synset = SYNSET.search(name)
    words = name if synset is None else name[: synset.start()] + name[synset.end() :]
    each = [plain(word) for word in words.split(",")]
    return [plain(name)], [synset[0]] if synset else [], [plain(words)], [word for word in each if word]


def plain(name: str) -> str:
    """A name without case, composed, and with spaces for underscores and hyphens."""
    return " ".join(re.sub(r"[_\-]", " ", normalize("NFC", name).casefold()).split())
