"""Arguments and files as nobody should write them: valid ones, changed at random, by a seed."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from tests.data.sources.written import sample, tar

GOLDENS = Path(__file__).parents[1] / "goldens"

DIGITS = """0 1 2 3 7 8 10 32 100 -0 -1 +1 0.1 0.5 .5 1. -0.0 1e-3 1e3 1E5 1e400 -1e400 1e-400 1e308 1_0 0x10 1,5 1e --1
nan NaN inf -Infinity ² ٣ ½ ① １ 1000000 999999999999999 2147483648 9223372036854775808 18446744073709551616
5M 1GMAC 8GiB 75% 224px 30m"""
WORDS = """é 日本 🙂 null true false none [] {} [1,2] {"a":1} " ' ` $x $\\frac$ %s {0} { } ( ) [ ] * ? [! \\ / // . ..
../.. ~ ~nobody /dev/null - -- -h --x = : , ; x con resnet"""
NUMBERS = [
    *DIGITS.split(),
    "9" * 30,
    "9" * 100,
    "-" + "9" * 400,
    "9" * 5000,
    "0." + "3" * 400,
    "1e" + "9" * 30,
    "1 000",
]
TEXTS = [
    *("", " ", "\t", "\n", "a\nb", "\r", "\x1b[31m", "\x7f", "\u202e", "\ufeff", "\0", "\ud800", "\udfff", "\udce9"),
    *WORDS.split(),
    *("x" * 300, "x" * 100_000, "[" * 500_000, '{"a":' * 100_000, "a/" * 3000),
]


def text(rng: Random, valid: Sequence[str]) -> str:
    """One of the valid texts, with a few changes, or another."""
    if rng.random() < 0.08:
        return rng.choice([*NUMBERS, *TEXTS])
    made = rng.choice(valid)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        made = rng.choice(CHANGES)(rng, made, valid)
    return made


def number_swapped(rng: Random, made: str, valid: Sequence[str]) -> str:
    places = list(re.finditer(r"[0-9.]+", made))
    if not places:
        return made + rng.choice(NUMBERS)
    place = rng.choice(places)
    return made[: place.start()] + rng.choice(NUMBERS) + made[place.end() :]


def inserted(rng: Random, made: str, valid: Sequence[str]) -> str:
    i = rng.randint(0, len(made))
    return made[:i] + rng.choice([*NUMBERS, *TEXTS, *valid]) + made[i:]


def cut(rng: Random, made: str, valid: Sequence[str]) -> str:
    i, j = sorted(rng.randint(0, len(made)) for _ in range(2))
    return made[:i] + made[j:]


def repeated(rng: Random, made: str, valid: Sequence[str]) -> str:
    i, j = sorted(rng.randint(0, len(made)) for _ in range(2))
    return made[:j] + made[i:j] * rng.choice((1, 2, 50)) + made[j:]


def joined(rng: Random, made: str, valid: Sequence[str]) -> str:
    """The beginning of one and the end of another."""
    other = rng.choice(valid)
    return made[: rng.randint(0, len(made))] + other[rng.randint(0, len(other)) :]


def character_changed(rng: Random, made: str, valid: Sequence[str]) -> str:
    i = rng.randint(0, max(len(made) - 1, 0))
    return made[:i] + chr(rng.choice((rng.randint(1, 127), rng.randint(1, 0x10FFFF)))) + made[i + 1 :]


def recased(rng: Random, made: str, valid: Sequence[str]) -> str:
    return made.swapcase()


def after_equals(rng: Random, made: str, valid: Sequence[str]) -> str:
    name, equals, _ = made.partition("=")
    return name + equals + rng.choice([*NUMBERS, *TEXTS])


Change = Callable[[Random, str, Sequence[str]], str]
CHANGES: list[Change] = [
    *(number_swapped, number_swapped, after_equals, after_equals),
    *(inserted, cut, repeated, joined, character_changed, recased),
]

VALUES: list[Callable[[Random], Any]] = [
    lambda r: None,
    lambda r: r.random() < 0.5,
    lambda r: r.choice((0, 1, -1, 2, 3, 10, 255, 1000, 2**31, 2**63, 2**64, 10**30, 10**400)),
    lambda r: r.choice((0.0, -0.0, 0.5, -1.5, 1e-320, 1e308, float("nan"), float("inf"), -float("inf"))),
    lambda r: r.choice([*NUMBERS, *TEXTS]),
    lambda r: [],
    lambda r: {},
    lambda r: [r.choice(VALUES[:5])(r) for _ in range(r.randint(1, 4))],
    lambda r: {r.choice([*TEXTS, "kind", "lr", "name"]): r.choice(VALUES[:5])(r) for _ in range(r.randint(1, 3))},
    lambda r: f"deep {r.choice((3, 30, 40, 400, 100_000))}",
]


def nested(made: re.Match[bytes]) -> bytes:
    """Lists in objects in lists, as deep as it says: json.dumps could not write them."""
    depth = int(made[1])
    return b'{"a":[' * depth + b"1" + b"]}" * depth


def record(rng: Random, valid: Any) -> bytes:
    """A JSON file: of the valid record with a few values changed, missing, doubled; or its text changed."""
    made = copy.deepcopy(valid)
    for _ in range(rng.choice((1, 1, 2, 4))):
        holder, key = rng.choice(list(places(made)) or [({}, "a")])
        match rng.randint(0, 5):
            case 0:
                del holder[key]
            case 1:
                other, there = rng.choice(list(places(made)))
                holder[key] = copy.deepcopy(other[there])
            case 2 if isinstance(holder, dict):
                holder[rng.choice([*TEXTS, "extra"])] = rng.choice(VALUES)(rng)
            case _:
                holder[key] = rng.choice(VALUES)(rng)
    content = json.dumps(made, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    content = re.sub(rb'"deep (\d+)"', nested, content)
    if rng.random() < 0.15:
        i, j = sorted(rng.randint(0, len(content)) for _ in range(2))
        piece = rng.choice(
            (b"", b"[" * 500_000, b'{"a":' * 500_000, b"9" * 500, b"\xff", b"\0", b"NaN", b"\xef\xbb\xbf")
        )
        content = content[:i] + piece + content[rng.choice((i, j)) :]
    return content


def places(held: Any) -> Any:
    """Every place within nested objects and lists, as (holder, key)."""
    for key, below in list(held.items() if isinstance(held, dict) else enumerate(held)):
        yield held, key
        if isinstance(below, dict | list):
            yield from places(below)


def write_files(folder: Path) -> None:
    """A valid run, pack, network and results file, and images as a folder, as a list and as shards."""
    shutil.copytree(GOLDENS / "run", folder / "run")
    shutil.copy(GOLDENS / "results.jsonl", folder)
    shutil.copytree(GOLDENS / "pack_1_raw", folder / "pack")
    for label in "ab":
        for i in range(4):
            file = folder / "photos" / label / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (9, 8), (40 * i, 10, ord(label))).save(file)
    shutil.copytree(folder / "photos", folder / "list")
    lines = [f"{label}/{i}.png\t{label}\n" for i in range(4) for label in "ab"]
    (folder / "list" / "train.txt").write_text("".join(lines[:6]))
    (folder / "list" / "val.txt").write_text("".join(lines[6:]))
    for part, numbers in (("train", range(6)), ("val", range(6, 8))):
        tar(folder / "shards" / f"{part}-0.tar", [m for i in numbers for m in sample(i, i % 2)])
    (folder / "empty").mkdir()
    (folder / "net.py").write_text("import torch\n\n\ndef make():\n    return torch.nn.Conv2d(1, 2, 3)\n")
