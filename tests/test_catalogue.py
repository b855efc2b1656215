"""Names, look-up and build options."""

import re

import pytest

from convatlas.catalogue import Claim, Paper, Variant, find, plain, variants
from convatlas.errors import UserError


def test_names_are_plain_and_never_spell_each_other() -> None:
    spellings: dict[str, str] = {}
    for name, variant in variants().items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        for spelling in {plain(s) for s in (name, *variant.aliases)}:
            assert spellings.setdefault(spelling, name) == name, f"{spelling} is {spellings[spelling]} and {name}"


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("ResNet-50", "resnet50"),
        ("VGG-16", "vgg16"),
        ("GoogLeNet", "googlenet"),
        ("LeNet-5", "lenet5"),
        ("AlexNet", "alexnet"),
    ],
)
def test_a_papers_spelling_is_found(spelled: str, name: str) -> None:
    assert find(spelled).name == name


def test_an_unknown_name_gets_near_ones() -> None:
    with pytest.raises(UserError, match=r"no network named 'resnet5O'; did you mean .*resnet50"):
        find("resnet5O")
    with pytest.raises(UserError, match=r"no network named 'xqzzy'; choose from .* in all"):
        find("xqzzy")


def test_every_variant_says_what_it_is() -> None:
    for v in variants().values():
        assert isinstance(v.paper, Paper)
        assert v.paper.url.startswith("https://")
        assert 1989 <= v.paper.year <= 2024
        assert all(isinstance(c, Claim) for c in v.claims)
        assert v.input is not None
        assert len(v.input) == 3


def test_build_options() -> None:
    variant = find("resnet18")
    with pytest.raises(UserError, match=r"resnet18 has no option 'clases'; its options are .*classes"):
        variant.build(clases=10)
    with pytest.raises(UserError, match="classes=0 is not a positive integer; give a whole number of at least 1"):
        variant.build(classes=0)
    with pytest.raises(UserError, match="is not an image size; give"):
        variant.build(input=(3, 224))
    net = variant.build(classes=10, channels=1, input=(3, 64, 64))
    assert net.input == (1, 64, 64)
    assert next(net.parameters()).shape[1] == 1


def test_a_variant_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Variant("x").name = "y"  # type: ignore[misc]
