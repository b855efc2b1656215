"""The data's classes and the model's: the same class goes together, whatever it is called, or is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from convatlas.data.names import class_names, unnamed
from convatlas.data.types import MemorySplit
from convatlas.errors import UserError
from convatlas.evaluation.classes import aligned

IMAGENET = class_names("imagenet")


def split(*classes: str) -> Any:
    n = len(classes)
    return MemorySplit("val", torch.zeros(n, 3, 8, 8, dtype=torch.uint8), torch.arange(n), classes)


def outputs(data: tuple[str, ...], model: tuple[str, ...]) -> tuple[list[int], str]:
    found, note = aligned(split(*data), model)
    assert found.classes == model
    return found.labels.tolist(), note


def test_the_same_classes_are_left_alone() -> None:
    data = split("a", "b")
    assert aligned(data, ("a", "b")) == (data, "")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (("n01440764", "n01443537"), [0, 1]),
        (("n01443537_goldfish", "n01440764_tench"), [1, 0]),
        (("goldfish", "great_white_shark", "Tench"), [1, 2, 0]),
        (("Carassius auratus",), [1]),
        (("n03126707", "n02012849"), [517, 134]),  # both are called "crane"
    ],
)
def test_imagenet(data: tuple[str, ...], found: list[int]) -> None:
    assert outputs(data, IMAGENET)[0] == found
    background = class_names("imagenet_background")
    assert outputs(data, background)[0] == [output + 1 for output in found]


def test_every_class_by_its_synset_and_by_its_words() -> None:
    assert outputs(tuple(name.split()[0] for name in IMAGENET), IMAGENET)[0] == list(range(1000))
    words = tuple(name.partition(" ")[2] for name in IMAGENET)
    doubled = {word for word in words if words.count(word) > 1}
    unique = tuple(word for word in words if word not in doubled)
    assert outputs(unique, IMAGENET)[0] == [words.index(word) for word in unique]


def test_a_word_of_two_classes_names_neither() -> None:
    with pytest.raises(UserError, match="'crane' is not among 'n01440764 tench"):
        outputs(("crane", "goldfish"), IMAGENET)


def test_what_is_said() -> None:
    assert outputs(("b", "a"), ("a", "b")) == ([1, 0], "classes in another order: aligned by name")
    assert outputs(("b",), ("a", "b"))[1] == "the data has 1 of the model's 2 classes; all outputs compete"
    assert outputs(("cafe\u0301", "a"), ("a", "caf\u00e9"))[0] == [1, 0]
    assert outputs(("B", "a"), ("a", "b"))[1] == "classes aligned by name: 'B' is 'b'"


def test_outputs_without_names() -> None:
    found, note = aligned(split("x", "y"), unnamed(2))
    assert (found.classes, found.labels.tolist()) == (("x", "y"), [0, 1])
    assert note == "the model's outputs have no names: taken in the data's order"
    with pytest.raises(UserError, match="'x' is not among 'output 0', 'output 1'"):
        aligned(split("x"), unnamed(2))


def test_numbers_that_are_names_go_by_name() -> None:
    assert outputs(("0", "1"), ("1", "0"))[0] == [1, 0]


@pytest.mark.parametrize(
    ("data", "model", "message"),
    [
        (("a", "dog"), ("a", "b"), "'dog' is not among 'a', 'b'; evaluate on data with some of the model's 2 classes"),
        (("a", "A"), ("a", "b"), "'a', 'A' are not among"),
        (("x", "y"), ("0", "1"), "'x', 'y' are not among '0', '1'"),
    ],
)
def test_what_has_no_output_is_named(data: tuple[str, ...], model: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        outputs(data, model)
