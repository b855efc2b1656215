"""Stacks of layers against the lectures' figures, and the words that layers are written in."""

import pytest

from convatlas.arithmetic import FC, Conv, Pool, Transposed, parse_layer, stack
from convatlas.errors import UserError


def test_three_3x3_against_one_7x7() -> None:
    three = stack((64, 56, 56), [Conv(64, 3, padding=1, bias=False)] * 3)
    seven = stack((64, 56, 56), [Conv(64, 7, padding=3, bias=False)])
    assert (three.weights, seven.weights) == (27 * 64**2, 49 * 64**2)
    assert three.receptive_fields == ((3, 3), (5, 5), (7, 7))
    assert seven.receptive_fields == ((7, 7),)
    assert three.macs == 56 * 56 * three.weights


def test_bottleneck() -> None:
    layers = [parse_layer(text) for text in ("conv 64 1x1", "conv 64 3x3 pad 1", "conv 256 1x1")]
    made = stack((256, 56, 56), layers)
    assert (made.weights, made.params, made.output) == (69_632, 69_632 + 64 + 64 + 256, (256, 56, 56))


def test_what_is_seen_after_a_fully_connected_layer() -> None:
    made = stack((1, 28, 32), [Conv(6, (5, 3)), Pool(2), FC(10), FC(5)])
    assert made.receptive_fields == ((5, 3), (6, 4), (28, 32), (28, 32))
    assert made.values == 6 * 24 * 30 + 6 * 12 * 15 + 10 + 5
    assert stack((10,), [FC(5)]).receptive_fields == ((),)


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        ("conv 64 3x3", Conv(64, (3, 3), (1, 1))),
        ("Conv 64 1x7 stride 2 pad same", Conv(64, (1, 7), (2, 2), "same")),
        ("conv 8 3 groups 4 pad 1x2 nobias dilation 2", Conv(8, (3, 3), (1, 1), (1, 2), (2, 2), 4, False)),
        ("pool 2", Pool((2, 2))),
        ("pool 3 stride 2 pad 1 ceil", Pool((3, 3), (2, 2), (1, 1), ceil=True)),
        ("fc 10 nobias", FC(10, bias=False)),
    ],
)
def test_words(text: str, layer: Conv | Pool | FC) -> None:
    shape = (8, 9, 11)
    assert parse_layer(text).on(shape) == layer.on(shape)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cnov 64 3", "no layer named 'cnov'; did you mean conv?"),
        ("", "no layer named ''; choose from conv, pool, fc"),
        ("conv 64", "'conv 64' is incomplete; write conv FILTERS KERNEL"),
        ("conv 64 3 strid 2", "no word of a conv layer named 'strid'; did you mean stride?"),
        ("fc 10 pad 1", "no word of a fc layer named 'pad'; choose from nobias"),
        ("conv 64 3 stride", "'' in 'conv 64 3 stride' is not a number or height x width"),
        ("conv 64 3 stride same", "'same' in .* is not a number"),
        ("conv 8x9 3", "'8x9' in 'conv 8x9 3' is not one number"),
        ("conv 8 3 pad 1 pad 2", "has pad twice"),
    ],
)
def test_refused_words(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_layer(text)


def test_refused_stacks() -> None:
    with pytest.raises(UserError, match="the stack has no layers"):
        stack((3, 9, 9), [])
    with pytest.raises(UserError, match="a transposed convolution cannot be part of a stack"):
        stack((3, 9, 9), [Transposed(3, 2)])
